"""The built-in kinds of tasks: few, and each needs nothing on a node but what every Linux machine has, or a module that is sent along."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from dms.jobs.document import about
from dms.kinds import Fields, Kind
from dms_proto.verification.spot_work import ROUND, ROUND_US

Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Words = tuple[str, ...]
Files = Annotated[tuple[Path, ...], Meta(description="Files and directories to send along.", max_length=1024)]
Patterns = Annotated[tuple[Path, ...], Meta(description="Patterns of files to bring back.", max_length=256)]
Port = Annotated[int, Meta(description="On which it listens, as a service does; 0: on none.", ge=0, le=65_535)]


class CommandParameters(msgspec.Struct, frozen=True):
    """Of `command`."""

    argv: Annotated[Words, Meta(description="The program and its arguments, each taken as written.", min_length=1)]
    inputs: Files = ()
    outputs: Patterns = ()
    port: Port = 0


def command_job(given: CommandParameters) -> Fields:
    """A command as it stands there."""
    return {"command": given.argv, "inputs": given.inputs, "outputs": given.outputs, "ports": _ports(given.port)}


class ScriptParameters(msgspec.Struct, frozen=True):
    """Of `python-script`."""

    script: Annotated[Path, about("The file; it is sent along, and run by the python3 of the node.")]
    arguments: Annotated[Words, about("What follows it.")] = ()
    inputs: Files = ()
    outputs: Patterns = ()
    port: Port = 0


def script_job(given: ScriptParameters) -> Fields:
    """A script, beside its inputs."""
    return {
        "command": ("python3", _name(given.script), *given.arguments),
        "inputs": (_beside(given.script), *given.inputs),
        "outputs": given.outputs,
        "ports": _ports(given.port),
    }


class ModuleParameters(msgspec.Struct, frozen=True):
    """Of `wasm-module`."""

    module: Annotated[Path, about("The WebAssembly module (WASI); it is sent along.")]
    arguments: Annotated[Words, about("Its arguments.")] = ()
    inputs: Files = ()
    outputs: Patterns = ()
    fuel: Annotated[int, Meta(description="Instructions it may execute; 0: no limit but time.", ge=0, le=2**53)] = 0


def module_job(given: ModuleParameters) -> Fields:
    """A module, which runs the same on any architecture."""
    return {
        "executor": "wasm",
        "module": given.module,
        "command": given.arguments,
        "inputs": given.inputs,
        "outputs": given.outputs,
        "limits": {"fuel": given.fuel},
    }


class Algorithm(StrEnum):
    """A checksum that every Linux machine can make."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    BLAKE2B = "blake2b"
    MD5 = "md5"


_PROGRAMS: Final = {Algorithm.BLAKE2B: "b2sum"}


class ChecksumParameters(msgspec.Struct, frozen=True):
    """Of `checksum`."""

    files: Annotated[tuple[Path, ...], Meta(description="Files, which are sent along.", min_length=1, max_length=1024)]
    algorithm: Annotated[Algorithm, about("sha256, sha512, blake2b or md5.")] = Algorithm.SHA256


def checksum_job(given: ChecksumParameters) -> Fields:
    """One line for each file, as sha256sum writes it."""
    program = _PROGRAMS.get(given.algorithm, f"{given.algorithm}sum")
    places = [_name(path) if _is_outside(path) else path for path in given.files]
    if len(set(places)) < len(places):
        raise ValueError("two of the files have one name")
    inputs = tuple({"path": path, "as": place} for path, place in zip(given.files, places, strict=True))
    return {"command": (program, "--", *places), "inputs": inputs}


class MeasureParameters(msgspec.Struct, frozen=True):
    """Of `measure-cpu`."""

    seconds: Annotated[int, Meta(description="How long it is measured.", ge=1, le=600)] = 5


MEASURE: Final = f"""\
{ROUND}
import json, sys, time
state, rounds, begun = bytes(32), 0, time.monotonic()
while (spent := time.monotonic() - begun) < float(sys.argv[1]):
    state, rounds = a_round(state), rounds + 1
print(json.dumps({{"rounds": rounds, "seconds": round(spent, 3), "score": round(rounds * {ROUND_US} / spent / 1e3)}}))
"""
"""The round by which nodes measure their cores, as often as the time allows: the score is in thousandths of the reference core."""


def measure_job(given: MeasureParameters) -> Fields:
    """How fast one core is there, by what runs on it now."""
    return {
        "command": ("python3", "-I", "-S", "-c", MEASURE, str(given.seconds)),
        "resources": {"cpu": 1, "memory": "128MiB"},
        "timeouts": {"run": f"{5 * given.seconds}s"},
    }


BUILT_IN: Final = {
    "command": Kind("A command, with the files it reads and leaves.", CommandParameters, command_job),
    "python-script": Kind("A Python script, run by the python3 of the node.", ScriptParameters, script_job),
    "wasm-module": Kind("A WebAssembly module, on whatever architecture.", ModuleParameters, module_job),
    "checksum": Kind("Checksums of files, as sha256sum prints them.", ChecksumParameters, checksum_job),
    "measure-cpu": Kind(
        "How fast a core of a node is, in thousandths of the reference core.", MeasureParameters, measure_job
    ),
}
"""By name. No plug-in takes their names."""


def _ports(port: int) -> tuple[int, ...]:
    return (port,) if port else ()


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _is_outside(path: str) -> bool:
    """Whether a path could not be that of a file in the job's directory."""
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts


def _beside(path: str) -> Fields:
    return {"path": path, "as": _name(path)}
