from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dms.config.paths import MAX_SOCKET_PATH, Home, open_private, require_private, resolve_home
from dms_proto.errors import UserError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_option_wins_over_the_variable_and_the_variable_over_the_platform(tmp_path: Path) -> None:
    environ = {"DMS_HOME": str(tmp_path / "env")}
    assert resolve_home(tmp_path / "option", environ).root == tmp_path / "option"
    assert resolve_home(None, environ).root == tmp_path / "env"
    assert resolve_home(None, {}).root.name == "dms"


def test_a_relative_option_is_taken_from_here_but_a_relative_variable_is_refused() -> None:
    assert resolve_home("here", {}).root == Path.cwd() / "here"
    for value in ("here", ""):
        with pytest.raises(UserError, match="absolute"):
            resolve_home(None, {"DMS_HOME": value})


def test_preparing_makes_private_directories_whatever_the_umask(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "home")
    before = os.umask(0)
    try:
        home.prepare()
        home.prepare()
    finally:
        os.umask(before)
    for directory in (home.root, home.blobs, home.jobs, home.log, home.cache):
        assert mode(directory) == 0o700


def test_preparing_repairs_a_home_that_others_could_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Home(tmp_path).prepare()
    assert mode(tmp_path) == 0o700


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a directory"):
        Home(tmp_path / "file").prepare()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a directory of another user")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(UserError, match="belongs to you"):
        Home(tmp_path).prepare()


def test_all_files_lie_in_the_home_and_have_different_names(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [name for name in dir(Home) if isinstance(getattr(Home, name), property)]
    paths = [getattr(home, name) for name in names]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)


def test_the_socket_of_a_deep_home_can_still_be_bound(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * MAX_SOCKET_PATH))
    assert len(os.fsencode(home.socket)) <= MAX_SOCKET_PATH
    home.prepare()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(home.socket))
        assert mode(home.socket.parent) == 0o700
        assert home.socket == Home(home.root).socket
        assert home.socket != Home(tmp_path / ("y" * MAX_SOCKET_PATH)).socket
    finally:
        home.socket.unlink(missing_ok=True)
        home.socket.parent.rmdir()


def test_files_are_opened_0600_and_links_are_not_followed(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w", opener=open_private) as stream:
        stream.write("x")
    assert mode(tmp_path / "f") == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"), open(tmp_path / "link", "w", opener=open_private):
        pass


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_file_others_can_use_is_refused_with_the_repair(tmp_path: Path, bits: int) -> None:
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(bits)
    with pytest.raises(UserError, match=f"{bits:04o}") as caught:
        require_private(file)
    assert caught.value.hint == f"chmod 600 {file}"
    file.chmod(0o600)
    require_private(file)


def test_importing_the_paths_loads_nothing_heavy() -> None:
    heavy = "{'msgspec', 'cryptography', 'psutil', 'platformdirs', 'tomllib', 'asyncio'}"
    code = f"import sys, dms.config.paths; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_package_gives_its_names_when_asked() -> None:
    import dms.config as package

    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = package.nothing_such
