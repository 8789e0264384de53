"""The token file is private, whole, and made once."""

from __future__ import annotations

import inspect
import stat
import threading
from pathlib import Path

import pytest

from dms.config.paths import Home
from dms.rpc.registry import Access
from dms.rpc.token import Tokens, is_token, load_token, rotate_token, token_file
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


@pytest.mark.parametrize(
    ("given", "same"), [("secret", True), ("secre", False), ("", False), ("sécret", False), ("\udcff", False)]
)
def test_tokens_are_compared_whole(given: str, same: bool) -> None:
    assert is_token(given, "secret") is same


def shown(home: Home, access: Access) -> str:
    return token_file(home, access).read_text().strip()


def test_the_two_tokens_are_private_files_and_open_different_things(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tokens = Tokens(home)
    assert stat.S_IMODE(home.reading_token.stat().st_mode) == 0o600
    assert shown(home, Access.FULL) != shown(home, Access.READ)
    assert [tokens.access_of(shown(home, access)) for access in Access] == [Access.READ, Access.FULL]
    assert tokens.access_of("") is None
    assert tokens.access_of(shown(home, Access.FULL)[:-1]) is None


@pytest.mark.parametrize("access", Access)
def test_a_token_that_others_can_read_keeps_http_from_starting(tmp_path: Path, access: Access) -> None:
    home = Home(tmp_path)
    Tokens(home)
    token_file(home, access).chmod(0o640)
    with pytest.raises(UserError) as caught:
        Tokens(home)
    assert (caught.value.code, caught.value.hint) == ("bad_config", f"chmod 600 {token_file(home, access)}")


@pytest.mark.parametrize("access", Access)
def test_a_rotated_token_opens_nothing_and_the_new_one_does_at_once(tmp_path: Path, access: Access) -> None:
    home = Home(tmp_path)
    tokens, before = Tokens(home), shown(Home(tmp_path), access)
    after = rotate_token(token_file(home, access))
    assert after == shown(home, access) != before
    assert (tokens.access_of(before), tokens.access_of(after)) == (None, access)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token", "token.read"]


def test_a_token_that_others_were_let_read_opens_nothing_until_it_is_private_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tokens, full = Tokens(home), shown(Home(tmp_path), Access.FULL)
    home.token.chmod(0o644)
    assert tokens.access_of(full) is None
    assert tokens.access_of(shown(home, Access.READ)) is Access.READ
    home.token.chmod(0o600)
    assert tokens.access_of(full) is Access.FULL


def test_rotating_makes_a_token_private_again(tmp_path: Path) -> None:
    load_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o644)
    rotate_token(tmp_path / "token")
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_token_that_cannot_be_rotated_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be used as token file"):
        rotate_token(tmp_path / "missing" / "token")


def test_tokens_are_compared_in_a_time_that_does_not_tell_how_much_was_right() -> None:
    """Time itself is not measured here; the standard library's comparison is what promises it."""
    assert "hmac.compare_digest(" in inspect.getsource(is_token)
    assert "is_token(" in inspect.getsource(Tokens.access_of)
