from __future__ import annotations

import re

import pytest

from dms_proto import errors


def test_every_code_is_a_word_and_has_a_sentence() -> None:
    for code, meaning in errors.CODES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert meaning.endswith(".")


def test_an_unlisted_code_cannot_be_raised() -> None:
    with pytest.raises(AssertionError, match="unlisted"):
        errors.UserError("no_such_code", "x")


def test_the_text_says_what_the_code_and_the_next_step() -> None:
    error = errors.UserError("bad_config", "market.window_ms is -1", hint="use a number above 0")
    assert str(error) == "market.window_ms is -1 [bad_config]; use a number above 0"
    assert str(errors.UserError("bad_config", "no hint")) == "no hint [bad_config]"


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        (errors.UserError, False),
        (errors.PeerError, True),
        (errors.MachineError, False),
        (errors.InternalError, False),
    ],
)
def test_whose_fault_decides_whether_retrying_helps_unless_said_otherwise(
    kind: type[errors.DmsError], retryable: bool
) -> None:
    assert kind("internal", "x").retryable is retryable
    assert kind("internal", "x", retryable=not retryable).retryable is not retryable
    assert issubclass(kind, errors.DmsError)


def test_the_same_error_for_somebody_else_is_another_object_of_its_class() -> None:
    error = errors.MachineError("disk_full", "no room", hint="make some", retryable=True)

    again = error.again()

    assert again is not error
    assert type(again) is errors.MachineError
    assert (again.code, again.message, again.hint, again.retryable) == ("disk_full", "no room", "make some", True)
