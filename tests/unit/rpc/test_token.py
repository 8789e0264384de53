"""The token file is private, whole, and made once."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from dms.rpc.token import is_token, load_token
from dms_proto.errors import MachineError, UserError


def test_a_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = load_token(path)
    assert len(token) >= 32
    assert load_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_token_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    load_token(path)
    path.chmod(0o644)
    with pytest.raises(UserError) as caught:
        load_token(path)
    assert (caught.value.code, caught.value.hint) == ("bad_config", f"chmod 600 {path}")


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    with pytest.raises(UserError, match="holds no token"):
        load_token(path)


def test_a_token_file_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be used as token file"):
        load_token(tmp_path / "missing" / "token")


def test_processes_that_start_together_get_one_token(tmp_path: Path) -> None:
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(load_token(tmp_path / "token"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1


@pytest.mark.parametrize(("given", "same"), [("secret", True), ("secre", False), ("", False), ("sécret", False)])
def test_tokens_are_compared_whole(given: str, same: bool) -> None:
    assert is_token(given, "secret") is same
