"""What the exit codes of `dms` mean."""

from __future__ import annotations

from typing import Final

from dms import early

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = early.INTERRUPTED
NOT_SEEN_THROUGH: Final = 124
NOT_RUN: Final = 125
BROKEN_PIPE: Final = 141

EXIT_CODES: Final[dict[int, str]] = {
    OK: "Done. For `dms run`: the job exited with 0.",
    FAILURE: "It failed; the message says why. Also: `dms doctor` found something to fix, `dms status` found the node unhealthy, "
    "`dms ask` found no node that would bid, `dms events verify` found damage, `dms audit verify` found a fault.",
    USAGE: "The command or the job was written wrongly; nothing was done.",
    NOT_SEEN_THROUGH: "`dms run` only: the job was handed over, and dms could not see it to its end (the node was away too long) or bring its files. "
    "The message names the job: `dms job wait` and `dms job get` go on from there. Running it again would pay twice.",
    NOT_RUN: "`dms run` only: dms itself could not run the job (no node, no bids, bad options) and nothing runs, or its result is undecided. "
    "Other codes of `dms run` are the job's own; 128 + N means that signal N ended it.",
    INTERRUPTED: "Stopped by ctrl-C. `dms run` has asked for the job to be cancelled.",
    BROKEN_PIPE: "`dms run` only: whoever read its output went away, as in `dms run -- yes | head`; the job was cancelled.",
}

_USAGE_CODES: Final = frozenset(
    {"bad_job", "bad_argument", "bad_config", "bad_expression", "bad_invite", "other_market", "ambiguous_id"}
)


def exit_code_of(code: str) -> int:
    """The exit code for an error's stable code."""
    return USAGE if code in _USAGE_CODES else FAILURE
