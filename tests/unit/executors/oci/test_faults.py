"""The messages are those that Docker 20.10 and podman 4.3 gave."""

from __future__ import annotations

import pytest

from dms.executors.oci.faults import init_failed, may_be_from_init, pull_failed, start_failed
from dms_proto.work import EndReason

MISSING = 'failed to create shim task: OCI runtime create failed: runc create failed: exec: "no-such": executable file not found in $PATH: unknown'
DENIED = 'OCI runtime create failed: unable to start container process: exec: "/job": permission denied: unknown'
FORMAT = "runc create failed: unable to start container process: exec /job/x: exec format error"
NO_COMMAND = "No command specified"
NO_COMMAND_HERE = "container create: no command or entrypoint provided, and no CMD or ENTRYPOINT from image"
RLIMIT = (
    "runc: error during container init: error setting rlimit type 6: operation not permitted: OCI permission denied"
)


@pytest.mark.parametrize(
    ("message", "reason", "code"),
    [
        (MISSING, EndReason.BAD_PROGRAM, 127),
        (DENIED, EndReason.BAD_PROGRAM, 126),
        (FORMAT, EndReason.BAD_PROGRAM, 126),
        (NO_COMMAND, EndReason.BAD_PROGRAM, 126),
        (NO_COMMAND_HERE, EndReason.BAD_PROGRAM, 126),
        (RLIMIT, EndReason.PROVIDER_FAULT, -1),
        ("error creating overlay mount: no space left on device", EndReason.PROVIDER_FAULT, -1),
        ("container init was OOM-killed (memory limit too low?)", EndReason.OUT_OF_MEMORY, -1),
    ],
)
def test_a_start_that_fails_is_whose_fault_it_is(message: str, reason: EndReason, code: int) -> None:
    ending = start_failed(message)
    assert (ending.reason, ending.exit_code) == (reason, code)
    assert ending.detail


def test_an_image_without_a_shell_cannot_make_variables_of_secrets() -> None:
    message = 'exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown'
    assert "/bin/sh, which secrets as variables need" in start_failed(message, reads_variables=True).detail


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("manifest unknown: manifest unknown", EndReason.BAD_PROGRAM),
        ("pull access denied for x, repository does not exist or may require 'docker login'", EndReason.BAD_PROGRAM),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", EndReason.BAD_PROGRAM),
        ("Get https://r.example/v2/: dial tcp 192.0.2.1:443: connect: connection refused", EndReason.PROVIDER_FAULT),
        ("Get https://r.example/v2/: dial tcp: lookup r.example: no such host", EndReason.PROVIDER_FAULT),
        ("write /var/lib/docker/tmp/x: no space left on device", EndReason.PROVIDER_FAULT),
    ],
)
def test_a_pull_that_fails_is_whose_fault_it_is(message: str, reason: EndReason) -> None:
    assert pull_failed("r.example/x@sha256:0", message).reason is reason


TINI = b"[FATAL tini (7)] exec no-such failed: No such file or directory\n"
CATATONIT = b"ERROR (catatonit:6): failed to exec pid1: No such file or directory\n"


@pytest.mark.parametrize(("complaint", "code"), [(TINI, 127), (CATATONIT, 1)])
def test_a_complaint_of_the_first_process_is_told_from_the_jobs_own(complaint: bytes, code: int) -> None:
    """Whatever part of it is there when it is looked at."""
    assert all(may_be_from_init(complaint[:length]) for length in range(len("ERROR (catatonit"), len(complaint) + 1))
    assert not may_be_from_init(complaint + b"more\n")
    assert not may_be_from_init(b"sh: no-such: not found\n")
    found = init_failed(complaint, code)
    assert found is not None
    assert (found.reason, found.exit_code) == (EndReason.BAD_PROGRAM, 127)
    assert init_failed(complaint, 3) is None
    assert init_failed(complaint[:20], code) is None
