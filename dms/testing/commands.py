"""Running `dms` commands in a test, against a node in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from dms.cli.app import cli
from dms.testing.served import Served


class Dms:
    """Runs commands as a person would."""

    def __init__(self, served: Served) -> None:
        self.served = served

    def __call__(self, *arguments: str) -> Result:
        """Runs one command with this home and nothing else of the environment."""
        result = CliRunner(env={"DMS_HOME": str(self.served.home.root)}).invoke(cli, list(arguments), prog_name="dms")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str) -> Any:  # whatever the command prints
        """What a command prints with --json."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def submit(self, tmp_path: Path, text: str = "command: [echo, hello]\nname: sample\n") -> str:
        """Submits a job, and gives its id."""
        path = tmp_path / "job.yaml"
        path.write_text(text)
        result = self("job", "submit", str(path))
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()
