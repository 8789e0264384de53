"""HTCondor's own bindings, in a process of their own: `python -m dms.executors.cluster.htcondor_bindings`.

While HTCondor does not answer they hold the interpreter for 20 s, with all its threads; and over a configuration that they cannot read they end the
process. Neither may happen to a node. So it asks by lines of JSON on this process's standard input, and each is answered by one on standard output.
What the bindings say beside goes to standard error. The process ends with its standard input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

Attributes = dict[str, str | int | float | bool]
"""Of an ad: those that have a value."""

MISSING: Final = "the package htcondor is missing here: pip install 'dms[htcondor]'"
_ALIKE: Final = {"Arch": "ARCH", "OpSys": "OPSYS", "FileSystemDomain": "FILESYSTEM_DOMAIN"}
"""In what a machine has to be like this one to be given a job from here, by HTCondor's own rules; and where its configuration has it."""
_WHOLE: Final = 'SlotType == "Partitionable" || SlotType == "Static"'
"""Slots that are no part of another."""
_NOT_WANTED: Final = "the node that placed it has no use for it any more"
_AS_SUBMITTING: Final = "QMGMT_WRITE_CMD"


class Machines(msgspec.Struct, frozen=True, tag=True):
    """Asks for the slots that a job from here may be given, or part of.

    Attributes:
        requirements: the owner's, on their machines.
        attributes: of the slots that are wanted.
    """

    requirements: str
    attributes: tuple[str, ...]


class Jobs(msgspec.Struct, frozen=True, tag=True):
    """Asks for the jobs of this user in the queue that have a mark.

    Attributes:
        mark: an attribute.
        attributes: of the jobs that are wanted.
    """

    mark: str
    attributes: tuple[str, ...]


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Asks to queue a job.

    Attributes:
        description: what a submit file would say.
    """

    description: dict[str, str]


class Remove(msgspec.Struct, frozen=True, tag=True):
    """Asks to remove a job. One that is over is no error.

    Attributes:
        job_id: of it.
    """

    job_id: str


Question = Machines | Jobs | Submit | Remove


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """To any of them.

    Attributes:
        error: why there is none; empty: there is.
        version: of HTCondor, to `Machines`.
        ads: to `Machines` and to `Jobs`.
        job_id: to `Submit`.
    """

    error: str = ""
    version: str = ""
    ads: tuple[Attributes, ...] = ()
    job_id: str = ""


class Bindings:
    """The bindings. Each question looks anew for the schedd, which may have been started again elsewhere."""

    def __init__(self) -> None:
        # They read HTCondor's configuration as they are imported.
        import classad2  # noqa: PLC0415
        import htcondor2  # noqa: PLC0415

        self._api: Any = htcondor2
        self._classad: Any = classad2

    def answer(self, question: Question) -> Answer:
        """Answers.

        Raises:
            Exception: what the bindings raise where HTCondor refuses, or does not answer.
        """
        collector = self._api.Collector()
        where = self._found(collector)
        schedd = self._api.Schedd(where)
        user = self._api.ping(where, _AS_SUBMITTING)[
            "MyRemoteUserName"
        ]  # and so a schedd that is away is heard of at once
        match question:
            case Machines(requirements, attributes):
                constraint = f"({_WHOLE}) && {self._alike()} && ({self._checked(requirements)})"
                ads = collector.query(self._api.AdType.Startd, constraint, list(attributes))
                return Answer(version=where["CondorVersion"], ads=self._read(ads, attributes))
            case Jobs(mark, attributes):
                ads = schedd.query(f"User == {self._classad.quote(user)} && {mark} =!= undefined", list(attributes))
                return Answer(ads=self._read(ads, attributes))
            case Submit(description):
                queued = schedd.submit(self._api.Submit(description))
                return Answer(job_id=f"{queued.cluster()}.{queued.first_proc()}")
            case Remove(job_id):
                schedd.act(self._api.JobAction.Remove, [job_id], (_NOT_WANTED, 0))
                return Answer()

    def _found(self, collector: Any) -> Any:
        try:
            return collector.locate(self._api.DaemonType.Schedd)
        except self._api.HTCondorException as error:
            raise LookupError(f"HTCondor's configuration leads to no schedd: {error}") from error

    def _alike(self) -> str:
        values = {name: self._classad.quote(self._api.param[setting]) for name, setting in _ALIKE.items()}
        return " && ".join(f"{name} == {value}" for name, value in values.items())

    def _checked(self, requirements: str) -> str:
        try:
            self._classad.ExprTree(requirements)
        except self._classad.ClassAdException as error:
            raise ValueError(f"executors.htcondor_requirements is no ClassAd expression: {requirements}") from error
        return requirements

    def _read(self, ads: Iterable[Any], attributes: Sequence[str]) -> tuple[Attributes, ...]:
        return tuple(
            {
                name: value
                for name in attributes
                if name in ad and not isinstance(value := ad.eval(name), self._classad.Value)
            }
            for ad in ads
        )


def main() -> int:
    """Answers until nobody asks any more."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # nothing but answers is said there
        try:
            bindings = Bindings()
        except ImportError:
            answers.write(msgspec.json.encode(Answer(MISSING)) + b"\n")
            return 1
        for line in sys.stdin.buffer:
            try:
                answer = bindings.answer(msgspec.json.decode(line, type=Question))
            except Exception as error:  # noqa: BLE001 - what they raise is an answer too
                answer = Answer(str(error) or type(error).__name__)
            answers.write(msgspec.json.encode(answer) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
