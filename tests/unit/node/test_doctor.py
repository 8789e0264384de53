"""What the doctor says of a home without a running node."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import msgspec
import pytest

from dms.config import Config, Home
from dms.config.identity import create, read_names
from dms.config.settings import Executors, Network
from dms.node.doctor import CHECKS, Subject, examine, main, subject_of
from dms.rpc.api.events import Check, Finding
from dms.rpc.token import rotate_token
from dms.store.events import EventStore
from dms.trust.grant import issue
from dms.trust.wallet import Wallet
from dms_actors.events import to_row
from dms_proto.errors import UserError
from dms_proto.grants.rights import Rights
from dms_proto.market.owner import PreferencesChanged
from dms_proto.market.preferences import fastest


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    create(home)
    return home


async def one(subject: Subject, name: str) -> Check:
    (check,) = (await examine(subject, [name])).checks
    return check


async def test_an_empty_directory_is_told_to_onboard(tmp_path: Path) -> None:
    check = await one(subject_of(Home(tmp_path / "nothing")), "identity")
    assert (check.finding, check.fix) == (Finding.FAIL, "dms onboard")


async def test_a_key_that_others_can_read_is_a_failure_with_the_command_that_mends_it(home: Home) -> None:
    assert (await one(subject_of(home), "identity")).finding is Finding.PASS
    home.identity_key.chmod(0o644)
    check = await one(subject_of(home), "identity")
    assert check.finding is Finding.FAIL
    assert check.fix == f"chmod 600 {home.identity_key}"


async def test_an_open_home_is_a_failure_as_it_is_at_the_start(home: Home) -> None:
    home.root.chmod(0o755)
    check = await one(subject_of(home), "identity")
    assert (check.finding, check.fix) == (Finding.FAIL, f"chmod 700 {home.root}")


async def test_a_grant_that_cannot_be_read_is_named_with_its_line_and_the_others_are_counted(home: Home) -> None:
    assert (await one(subject_of(home), "grants")).evidence == "0 grants held, each can be read"
    Wallet(home, read_names(home).peer_id).keep(issue(bytes(32), Rights()))
    assert (await one(subject_of(home), "grants")).evidence == "1 grant held, each can be read"
    with home.grants.open("a") as file:
        file.write("dmsg1:damaged\n")
    check = await one(subject_of(home), "grants")
    assert check.finding is Finding.WARN
    assert check.evidence.startswith(f"line 2 of {home.grants} is set aside: ")
    assert str(home.grants) in check.fix
    home.grants.chmod(0o644)
    check = await one(subject_of(home), "grants")
    assert (check.finding, check.fix) == (Finding.FAIL, f"chmod 600 {home.grants}")


async def test_a_configuration_that_cannot_be_read_is_named_and_what_needs_it_is_skipped(home: Home) -> None:
    assert (await one(subject_of(home), "config")).finding is Finding.PASS
    home.config.write_text("[network]\nlisten = 7\n")
    subject = subject_of(home)
    config = await one(subject, "config")
    assert config.finding is Finding.FAIL
    assert "listen" in config.evidence
    for name in ("ports", "gpus"):
        assert (await one(subject, name)).finding is Finding.SKIP


async def test_what_the_local_interfaces_lack_is_named_before_the_node_refuses_to_start(home: Home) -> None:
    def with_rpc(**changes: object) -> Subject:
        return Subject(home, Config(rpc=msgspec.structs.replace(Config().rpc, **changes)))

    closed = await one(with_rpc(), "interfaces")
    assert (closed.finding, "HTTP is off" in closed.evidence) == (Finding.PASS, True)
    assert (await one(with_rpc(http=True), "interfaces")).finding is Finding.PASS
    abroad = await one(with_rpc(http=True, host="0.0.0.0"), "interfaces")
    assert abroad.finding is Finding.FAIL
    assert "rpc.tls_certificate" in abroad.fix
    rotate_token(home.reading_token)
    home.reading_token.chmod(0o644)
    shared = await one(with_rpc(http=True), "interfaces")
    assert (shared.finding, shared.fix) == (Finding.FAIL, f"chmod 600 {home.reading_token}")


async def test_the_store_is_walked_and_a_break_is_a_failure(home: Home) -> None:
    assert (await one(subject_of(home), "store")).finding is Finding.SKIP
    async with await EventStore.open(home.events) as store:
        await store.append([to_row("owner", PreferencesChanged(fastest()), "test")] * 3)
    sound = await one(subject_of(home), "store")
    assert sound.finding is Finding.PASS
    assert sound.evidence.startswith("3 events")
    with sqlite3.connect(home.events) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET cause_id = 'forged' WHERE seq = 2")
    connection.close()
    broken = await one(subject_of(home), "store")
    assert broken.finding is Finding.FAIL
    assert broken.evidence.startswith("event 2: changed")


async def test_a_port_in_use_is_a_failure(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        subject = Subject(home, Config(network=Network(listen=(f"/ip4/127.0.0.1/tcp/{port}",))))
        taken = await one(subject, "ports")
        assert taken.finding is Finding.FAIL
        assert str(port) in taken.evidence
    assert (await one(subject, "ports")).finding is Finding.PASS


async def test_what_only_a_running_node_knows_is_skipped_and_never_passed(home: Home) -> None:
    for name in ("network", "reach", "peers", "clock", "pressure"):
        check = await one(subject_of(home), name)
        assert (check.finding, check.fix) == (Finding.SKIP, "dms up")
    answered = subject_of(home)._replace(answers=True)
    assert (await one(answered, "ports")).finding is Finding.SKIP
    assert "was not asked" in (await one(answered, "clock")).evidence


async def test_invented_gpus_are_listed_and_a_wrong_invention_fails(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_PROVIDER_SIMULATE_GPUS", "2xA100-40G")
    check = await one(subject_of(home), "gpus")
    assert check.finding is Finding.PASS
    assert check.evidence.count("A100") == 2
    monkeypatch.setenv("DMS_PROVIDER_SIMULATE_GPUS", "many")
    assert (await one(subject_of(home), "gpus")).finding is Finding.FAIL


async def test_an_executor_can_be_asked_for_alone(home: Home) -> None:
    assert [check.name for check in (await examine(subject_of(home), ["wasm"])).checks] == ["wasm"]


async def test_without_a_node_the_python_of_the_settings_is_tried(home: Home) -> None:
    config = Config(executors=Executors(python=f"{home.root}/no-python"))
    report = await examine(Subject(home, config), ["python"])
    (check,) = report.checks
    assert check.finding in (Finding.WARN, Finding.FAIL)
    assert f"{home.root}/no-python" in check.evidence


async def test_an_executor_that_is_not_there_is_no_empty_report(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_EXECUTORS_OCI_SOCKET", f"{home.root}/no-engine.sock")
    names = {check.name for check in (await examine(subject_of(home), ["oci"])).checks}
    assert names
    assert names <= {"sandbox", "wasm", "python", "executors"}, "all that the check has found instead"


async def test_an_unknown_check_is_refused_with_those_there_are(home: Home) -> None:
    with pytest.raises(UserError) as refused:
        await examine(subject_of(home), ["brain"])
    assert all(name in refused.value.hint for name in CHECKS)


def test_the_program_ends_with_1_when_something_failed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(home, as_json=False, only=["identity", "disk"]) == 0
    assert capsys.readouterr().out.startswith("PASS  identity")
    home.identity_key.chmod(0o666)
    assert main(home, as_json=True, only=["identity"]) == 1
    assert '"finding":"fail"' in capsys.readouterr().out
