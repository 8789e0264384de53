from __future__ import annotations

from pathlib import Path

import pytest

from dms.executors.sandbox import bwrap, profile, run_files, seccomp, uids
from dms.executors.sandbox.run_files import Record, RunFiles, Status
from dms.executors.settings import ExecutorSettings
from dms_proto.errors import MachineError
from dms_proto.units import MIB

VIEW = profile.View(job="/jobs/1", etc="/state/etc", binds=(("/opt/x", "/opt/y"),), block=6)


def pairs(options: list[str], name: str) -> list[tuple[str, str]]:
    return [(options[i + 1], options[i + 2]) for i, option in enumerate(options) if option == name]


def test_every_namespace_is_new_and_no_more_can_be_made() -> None:
    options = profile.host_options()
    assert {"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"} <= set(options)
    assert "--disable-userns" in options
    assert options[options.index("--cap-drop") + 1] == "ALL"


def test_a_run_must_survive_its_parent() -> None:
    assert "--die-with-parent" not in [*profile.host_options(), *profile.job_options(VIEW, {}, MIB)]


def test_a_host_without_merged_usr_shows_its_own_directories(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "sbin").symlink_to("/usr/sbin")
    options = profile.host_options(tmp_path, tmp_path)
    assert ("/bin", "/bin") in pairs(options, "--ro-bind")
    assert pairs(options, "--symlink") == [("usr/sbin", "/sbin"), ("usr/lib", "/lib")]


def test_only_the_jobs_directory_is_writable() -> None:
    options = [*profile.host_options(), *profile.job_options(VIEW, {}, MIB)]
    assert pairs(options, "--bind") == [("/jobs/1", "/job")]
    assert options[options.index("--chdir") + 1] == "/job"
    assert options[-options[::-1].index("--remount-ro")] == "/"


@pytest.mark.parametrize(("memory", "size"), [(10 * MIB, 5 * MIB), (1 << 40, profile.SCRATCH_BYTES), (1, MIB)])
def test_scratch_space_has_a_size_in_proportion_to_the_memory(memory: int, size: int) -> None:
    options = profile.job_options(VIEW, {}, memory)
    for index, option in enumerate(options):
        if option == "--tmpfs":
            assert options[index - 2 : index] == ["--size", str(size)]


def test_the_tasks_variables_come_last() -> None:
    variables = dict(pairs(profile.job_options(VIEW, {"PATH": "/x", "A": "b c"}, MIB), "--setenv"))
    assert variables == {"PATH": "/x", "HOME": "/tmp", "LANG": "C.UTF-8", "A": "b c"}


def test_options_are_separated_by_zero_bytes() -> None:
    assert profile.encode(["--a", "ü\udcff"]) == b"--a\0\xc3\xbc\xff\0"


def test_etc_is_made_up(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "alternatives").mkdir(parents=True)
    (host / "alternatives/awk").symlink_to("/usr/bin/mawk")
    (host / "alternatives/README").write_text("no link")
    (host / "ld.so.cache").write_bytes(b"cache")
    (host / "shadow").write_text("secret")
    (tmp_path / "state").mkdir()
    for _ in range(2):
        etc = profile.build_etc(tmp_path / "state", host)
    assert {path.name for path in etc.iterdir()} == {
        "alternatives",
        "group",
        "hosts",
        "ld.so.cache",
        "nsswitch.conf",
        "passwd",
    }
    assert [path.name for path in (etc / "alternatives").iterdir()] == ["awk"]
    assert (etc / "passwd").stat().st_mode & 0o777 == 0o644


def test_the_filter_is_a_program_for_the_kernel(tmp_path: Path) -> None:
    try:
        program = seccomp.build()
    except MachineError as error:
        pytest.skip(error.message)
    assert len(program) % 8 == 0
    assert 200 * 8 > len(program) / 8 > 50
    assert seccomp.cached(tmp_path).read_bytes() == program


@pytest.mark.parametrize(
    ("uid_map", "wanted"),
    [
        ("         0          0 4294967295\n", uids.VAST),
        ("0 100000 65536\n", uids.SMALL),
        ("0 1000 1\n1 100000 65535\n", uids.SMALL),
        ("0 1000 1000\n", (65_534, 1)),
    ],
)
def test_the_users_of_jobs_exist_here(uid_map: str, wanted: tuple[int, int]) -> None:
    chosen = uids.choose(ExecutorSettings(Path("/x")), uid_map)
    assert (chosen.first, chosen.count) == wanted


def test_a_configured_range_of_users_is_taken() -> None:
    settings = ExecutorSettings(Path("/x"), first_uid=5000, uid_count=10)
    chosen = uids.choose(settings, "0 0 4294967295")
    assert {chosen.of(f"a-{number}", Path("/x")) for number in range(500)} == set(range(5000, 5010))


def test_runs_and_nodes_have_users_of_their_own() -> None:
    chosen = uids.UidRange(*uids.VAST)
    several = {chosen.of(f"a-{number}", Path(home)) for number in range(100) for home in ("/x", "/y")}
    assert len(several) == 200
    assert chosen.of("a-1", Path("/x")) == chosen.of("a-1", Path("/x"))
    assert 0 not in several


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\0b", "x" * 101, "ä"])
def test_what_is_no_plain_name_is_no_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a run"):
        RunFiles(tmp_path, name)


def test_a_status_is_read_line_by_line_and_torn_or_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, "a-1")
    files.create()
    assert (files.record(), files.status()) == (None, Status())
    (tmp_path / "a-1.status").write_text(
        '{"executor":"sandbox","boot":"b","started_ms":5,"directory":"/x","uid":7,"groups":["/g"],"monitor":9}\n'
        '{ "child-pid": 12, "pid-namespace": 34, "future-namespace": 56 }\n'
        "[1, 2]\nnonsense\n"
        '{ "exit-code": 3 }\n{"cpu-us": 4'
    )
    record, status = files.record(), files.status()
    assert record == Record("sandbox", "b", 5, "/x", 7, ("/g",), 9)
    assert status == Status(child_pid=12, pid_namespace=34, exit_code=3)
    assert run_files.names(tmp_path) == {"a-1"}
    files.close()
    files.remove()
    assert run_files.names(tmp_path) == set()


def test_files_of_an_earlier_run_of_that_name_are_not_mixed_with_the_new(tmp_path: Path) -> None:
    (tmp_path / "a-1.stdout").write_text("old")
    files = RunFiles(tmp_path, "a-1")
    files.create()
    assert files.size("stdout") == 0
    files.close()


def sysctl(tmp_path: Path, **values: str) -> Path:
    for name, value in values.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "complaint", "hint"),
    [
        ({"user__max_user_namespaces": "0"}, "bwrap: No permissions", "max_user_namespaces"),
        ({"kernel__unprivileged_userns_clone": "0"}, "bwrap: No permissions", "unprivileged_userns_clone"),
        (
            {"kernel__apparmor_restrict_unprivileged_userns": "1"},
            "bwrap: setting up uid map: Permission denied",
            "apparmor_parser",
        ),
        ({}, "bwrap: Unknown option --disable-userns", "newer"),
        ({}, "bwrap: setting up uid map: Permission denied", "container"),
    ],
)
def test_a_sandbox_that_fails_is_explained(tmp_path: Path, settings: dict[str, str], complaint: str, hint: str) -> None:
    error = bwrap.explain(f"something\n{complaint}\n", sysctl(tmp_path, **settings))
    assert error.code == "executor_unavailable"
    assert complaint in error.message
    assert hint in error.hint


def test_a_configured_bubblewrap_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="not installed at"):
        bwrap.find(str(tmp_path / "none"))
    mine = tmp_path / "bwrap"
    mine.write_text("#!/bin/sh\necho bubblewrap 9.9\n")
    mine.chmod(0o755)
    assert bwrap.find(str(mine)) == str(mine)
    assert bwrap.version(str(mine)) == "9.9"


def test_what_is_right_in_the_etc_of_jobs_stays_the_file_it_was(tmp_path: Path) -> None:
    """Replaced, a file would take away what a running sandbox has mounted on it; and the certificates are large."""
    host = tmp_path / "host"
    bundle = host / profile.CA_BUNDLES[0]
    bundle.parent.mkdir(parents=True)
    bundle.write_text("certificates")
    etc = profile.build_trusting_etc(tmp_path / "state", host)

    def files() -> dict[str, int]:
        return {name: (etc / name).stat().st_ino for name in ("hosts", "passwd", *profile.CA_BUNDLES)}

    before = files()
    profile.build_trusting_etc(tmp_path / "state", host)
    assert files() == before
    bundle.write_text("other certificates")
    profile.build_trusting_etc(tmp_path / "state", host)
    assert {name for name, inode in files().items() if inode != before[name]} == set(profile.CA_BUNDLES)
    assert (etc / profile.CA_BUNDLES[-1]).read_text() == "other certificates"
