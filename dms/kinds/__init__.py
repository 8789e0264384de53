"""Kinds of tasks: what can be asked for by name and parameters, without writing a job document. The built-in ones, and plug-ins.

::

    builtin      the built-in kinds
    installed    which there are: built-in, and entry points of the group `dms.tasks`
    given        parameters as a person gives them, checked against the kind
    documents    a kind with its parameters as a job

A kind is data: what it is for, the type of its parameters, and a pure function from these to the fields of a job document. So whatever a kind makes
is a job like any other, checked by the rules of job documents. It is made where it is asked for, by the command line: no node loads a plug-in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Fields = dict[str, Any]
"""Fields of a job document, as a person would write them."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of task. What an entry point of the group `dms.tasks` names.

    Attributes:
        about: what it does, in a sentence.
        parameters: a frozen struct: one field per parameter, `Annotated` with a description, and a default unless it must be given.
        job: the job that parameters make. Pure: it reads no files. A ValueError is told as what is wrong with the parameters.
    """

    about: str
    parameters: type[msgspec.Struct]
    job: Callable[[Any], Fields]
