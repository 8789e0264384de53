"""Secrets of a job: read where its document says they are, when it is submitted.

A job file may come from somebody else, who would like `~/.ssh/id_ed25519` or `AWS_SECRET_ACCESS_KEY` sent to a machine of theirs. So a document can
take files beside it or below it, as for inputs, and variables that were named for this purpose. What a person types on the command line is their own
word. No message here shows a value.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from dms.jobs.check import OWN_VARIABLES
from dms.jobs.document import SecretSource
from dms.jobs.inputs import inside, open_regular
from dms_proto.secrets import MAX_VALUE_BYTES, is_variable


class SecretReader:
    """Reads the secrets of one job."""

    def __init__(self, base: Path, roots: Sequence[Path], variables: Collection[str]) -> None:
        """Says what may be read.

        Args:
            base: the directory paths are relative to.
            roots: directories files may lie in, resolved.
            variables: taken besides those that begin with `OWN_VARIABLES`.
        """
        self._base = base
        self._roots = roots
        self._variables = variables

    def read(self, source: SecretSource) -> bytes:
        """The value.

        Raises:
            ValueError: it is not there, too long, outside, or no text although it becomes a variable; the message is for a person.
        """
        value = self._variable(source.env) if source.env else self._file(source.file)
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(
                f"longer than {MAX_VALUE_BYTES} bytes; encrypt it, send it as an input, and make the key the secret"
            )
        if source.as_ == "variable" and not is_variable(value):
            raise ValueError("not UTF-8 text without NUL, so it cannot be a variable; use as: file")
        return value

    def _variable(self, name: str) -> bytes:
        if not name.startswith(OWN_VARIABLES) and name not in self._variables:
            raise ValueError(
                f"a document takes variables that begin with {OWN_VARIABLES} only: "
                f'{OWN_VARIABLES}{name}="${name}" dms job submit …'
            )
        if (value := os.environb.get(name.encode())) is None:
            raise ValueError(f"the environment variable {name} is not set")
        return value

    def _file(self, path: str) -> bytes:
        start = self._base / path
        if not start.exists():
            raise ValueError(f"{path} does not exist")
        with open_regular(inside(start, path, self._roots), path) as file:
            return file.read(MAX_VALUE_BYTES + 1)
