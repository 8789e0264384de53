"""Commands that look: what they print, in words and as JSON, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dms.cli.app import cli
from dms.config.paths import Home
from dms.rpc.api.events import Check, Finding
from dms.rpc.api.node import Pressure, Trouble
from dms.testing.audit_story import Story
from dms.testing.commands import Dms
from dms.testing.node_jobs import ALPHA, BETA, GAMMA
from dms.testing.samples import PROVIDER
from dms_proto.capability import Resources
from dms_proto.ids import short


def test_status_in_words(dms: Dms) -> None:
    node = dms.served.node.id.peer_id
    result = dms("status")
    assert result.exit_code == 0
    assert result.stdout == (
        "Node\n"
        f"  name     workshop ({short(node)})\n"
        "  state    running, up 1h 0m, pid 4242\n"
        "  network  up\n"
        "  peers    2 connected, 3 known, 1 by relay\n"
        f"  address  /ip4/192.0.2.7/tcp/4600/p2p/{node}\n"
        "  home     /home/me/dms\n"
        "  version  0.1.0\n"
        "Market\n"
        "  offers    4 cores, 8 GiB memory, 100 GiB disk\n"
        "  free      3 cores, 7 GiB memory, 100 GiB disk\n"
        "  requests  120 heard, 40 bid on, 80 declined\n"
        "  bids      12 won of 40\n"
        "  earned    1.25 credits\n"
        "Work\n"
        "  running here  1\n"
        "  my jobs       0 open, 0 waiting\n"
        "  ended         3 completed, 1 failed\n"
        "  spent         0.02 credits\n"
        "  events        3\n"
        "healthy\n"
    )


def test_status_of_an_unhealthy_node_says_what_is_wrong_and_exits_with_1(dms: Dms) -> None:
    trouble = Trouble("network_down", "the network process died 3 times in a minute", "dms doctor")
    dms.served.on_loop(lambda node: setattr(node, "troubles", (trouble,)))
    result = dms("status")
    assert result.exit_code == 1
    assert "! the network process died 3 times in a minute [network_down]; dms doctor" in result.stdout
    assert "healthy" not in result.stdout.splitlines()


def test_status_of_a_node_that_takes_no_work_says_that_it_offers_nothing(dms: Dms) -> None:
    dms.served.on_loop(lambda node: setattr(node, "provides", False))
    shown = dms("status").stdout
    assert "  offers    nothing: its owner lets it take no work\n" in shown
    assert "  free " not in shown


def test_status_takes_what_other_programs_use_from_what_is_free(dms: Dms) -> None:
    pressure = Pressure(False, "other programs use 1.5 cores more than they were left", Resources(1500))
    dms.served.on_loop(lambda node: setattr(node, "pressure", pressure))
    shown = dms("status").stdout
    assert (
        "  free      1.5 cores, 7 GiB memory, 100 GiB disk\n"
        "  withheld  1.5 cores: other programs use 1.5 cores more than they were left\n"
    ) in shown
    rows = [line.split() for line in dms("node", "capability").stdout.splitlines()]
    assert [row[:3] for row in rows if row[:1] in (["available"], ["withheld"], ["free"])] == [
        ["available", "3", "cores"],
        ["withheld", "1.5", "cores"],
        ["free", "1.5", "cores"],
    ]


def test_doctor_in_words(dms: Dms) -> None:
    result = dms("doctor")
    assert result.exit_code == 0
    assert result.stdout == (
        "PASS  identity  key 0600, clock skew 12 ms\n"
        "WARN  nat       symmetric; most peers reach this node by relay   fix: forward tcp/4600\n"
        "PASS  sandbox   bwrap 0.11, seccomp, no network\n"
        "2 pass, 1 warn\n"
    )


def test_doctor_exits_with_1_when_something_fails(dms: Dms) -> None:
    failing = (
        Check("disk", Finding.FAIL, "1.1 GiB free, 5 GiB locked", "dms node capability"),
        Check("gpu", Finding.SKIP, "no driver"),
    )
    dms.served.on_loop(lambda node: setattr(node, "checks", failing))
    result = dms("doctor")
    assert result.exit_code == 1
    assert result.stdout == (
        "FAIL  disk  1.1 GiB free, 5 GiB locked   fix: dms node capability\nSKIP  gpu   no driver\n1 fail, 1 skip\n"
    )
    assert dms("doctor", "--only", "gpu").exit_code == 0


def test_explain_in_words(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path, "command: [echo, hello]\nresources: {memory: 12GiB}")
    result = dms("job", "explain", job)
    assert result.exit_code == 0
    assert result.stdout == (
        f"job {short(job)}  sandbox 1 core, 12 GiB memory, 256 MiB disk  at most 1 credit per allocation   3 nodes known\n"
        f"     1 bid          best 0.0012 credits, alpha ({short(ALPHA)})\n"
        "     1 declined     memory: wanted 12 GiB, there 8 GiB free of 16 GiB; would take memory 8 GiB\n"
        "     1 silent       last heard of 4 s ago, by relay\n"
        "what would help:\n"
        "  lower memory 12 GiB -> 8 GiB: +1 node\n"
        "\n"
        "NODE                       VERDICT   WHY\n"
        f"alpha ({short(ALPHA)})          bid       0.0012 credits\n"
        f"beta ({short(BETA)})           declined  memory: wanted 12 GiB, there 8 GiB free of 16 GiB; would take memory 8 GiB\n"
        f"gamma\\x1b[31m ({short(GAMMA)})  silent    last heard of 4 s ago, by relay\n"
    )


def test_the_counts_of_explain_add_up_to_the_nodes_known(dms: Dms, tmp_path: Path) -> None:
    found = dms.json("job", "explain", dms.submit(tmp_path))
    assert sum(found["counts"].values()) == len(found["verdicts"]) == 3


def test_decision_tells_score_and_summands_and_that_it_can_be_repeated(dms: Dms, tmp_path: Path) -> None:
    result = dms("job", "decision", dms.submit(tmp_path))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "2 bids" in lines[0]
    assert "score" in lines[1]
    assert "price" in lines[1]
    assert "0.0012 credits" in lines[1]
    assert lines[1].endswith("chosen")
    assert lines[-1] == "computed again from the stored facts: the same order"


def test_a_job_can_be_shown_listed_and_traced(dms: Dms, tmp_path: Path) -> None:
    job = dms.submit(tmp_path)
    assert "completed" in dms("job", "list").stdout
    shown = dms("job", "show", job[:8]).stdout
    assert f"Job {job}" in shown
    assert "0.0012 credits, at most 1 credit per allocation" in shown
    assert f"alpha ({short(ALPHA)})" in shown
    assert "the job was submitted" in dms("trace", job).stdout
    assert dms("job", "list", "--active").stdout == "no jobs; dms run -- echo hello\n"


def test_join_moves_a_node_and_says_who_has_to_restart_it(dms: Dms) -> None:
    first = dms("join", "dms1:lab")
    assert (first.exit_code, first.stdout) == (2, "")
    assert "this node is in the market 'lab' from its next start [other_market]; restart it, and give" in first.stderr
    assert dms("join", "dms1:lab").stdout.startswith("connected to alpha")


@pytest.mark.parametrize("command", [["job", "decision"], ["job", "show"], ["job", "explain"], ["alloc", "show"]])
def test_nodes_are_shown_by_name(dms: Dms, tmp_path: Path, command: list[str]) -> None:
    about = dms.submit(tmp_path)
    if command[0] == "alloc":
        about = dms.json("alloc", "list")["allocations"][0]["allocation_id"]
        assert f"alpha ({short(ALPHA)})" in dms("alloc", "list").stdout
    assert "alpha (" in dms(*command, about).stdout


def test_short_ids_work_when_unique_and_say_what_they_could_mean(dms: Dms, tmp_path: Path) -> None:
    dms.submit(tmp_path)
    dms.submit(tmp_path)
    result = dms("job", "show", "r-")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "could be 2 jobs" in result.stderr
    missing = dms("job", "show", "r-zzz")
    assert missing.exit_code == 1
    assert missing.stderr == "dms: no job 'r-zzz' here [not_found]; dms job list shows them\n"


def test_peers_are_listed_with_state_and_distance_and_cannot_colour_the_screen(dms: Dms) -> None:
    lines = dms("peers", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PEER", "STATE", "RTT", "WORK", "FOR", "US", "SOFTWARE", "DETAIL"]
    assert "0.8 ms" in lines[1]
    assert "20.4 ms by relay" in lines[2]
    assert "gamma\\x1b[31m" in lines[3]
    assert "\x1b" not in "".join(lines)


def test_ping_tells_the_way(dms: Dms) -> None:
    assert dms("peers", "ping", "alpha", "--count", "1").stdout == (
        f"pong from alpha ({short(ALPHA)}) in 0.8 ms, direct, /ip4/192.0.2.8/tcp/4600\n"
    )
    lost = dms("peers", "ping", short(GAMMA))
    assert lost.exit_code == 1
    assert "3 of 3 probes got no answer" in lost.stdout


def test_banning_and_lifting_a_ban(dms: Dms) -> None:
    assert "is banned for 600 s" in dms("peers", "ban", "beta", "--for", "10m").stdout
    assert "may come back" in dms("peers", "ban", "beta", "--for", "0").stdout
    assert dms("peers", "ban", "beta", "--for", "soon").exit_code == 2


def test_invite_prints_the_command_for_the_other_machine(dms: Dms) -> None:
    invited = dms("invite")
    assert invited.stdout == "dms join dms1qqqq\n"  # and nothing else: it is pasted, and read by scripts
    assert invited.stderr == "dms: only machines on this network can use it\n"


def test_join(dms: Dms) -> None:
    assert dms("join", "dms1xyz").stdout == f"connected to alpha ({short(ALPHA)}); 3 peers connected\n"
    bad = dms("join", "rubbish")
    assert (bad.exit_code, bad.stderr) == (2, "dms: this is not a join string [bad_invite]; dms invite prints one\n")


def test_events_are_queried_and_verified(dms: Dms) -> None:
    lines = dms("events", "query", "--limit", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "3"]
    assert "CapabilityRegistered" in lines[0]
    assert dms("events", "query", "--kind", "Nothing").stdout == "no such events\n"
    assert dms("events", "verify").stdout == f"intact: 3 events, head {'ab' * 32}\n"
    assert dms("events", "query", "--last", "ages").exit_code == 2


def test_the_node_can_be_looked_at_measured_paused_and_resumed(dms: Dms) -> None:
    capability = dms("node", "capability").stdout
    assert [line.split()[0] for line in capability.splitlines()[1:5]] == [
        "registered",
        "available",
        "locked",
        "allocated",
    ]
    assert "sandbox 0.11: namespaces; hard limits: cpu, memory" in capability
    benchmark = dms("node", "benchmark", "--dry-run").stdout
    assert "dms-bench version 1" in benchmark
    assert "1,234.5  ops/s  ±5%" in benchmark
    assert "not registered" in benchmark
    assert dms.served.node.id.did in dms("node", "id").stdout
    assert dms("node", "pause").stdout == "paused; 1 allocation running here\n"
    assert dms("node", "resume").stdout == "running; 1 allocation running here\n"
    assert dms("node", "status").stdout == dms("status").stdout


def test_prices_are_suggested_setting_by_setting(dms: Dms) -> None:
    said = dms("price", "suggest", "--days", "7").stdout.splitlines()

    assert said[0].startswith("8 requests since ")
    assert said[1] == "3 won, 0 lost to others, 5 declined for the price alone"
    assert said[2] == "those declined would have paid 0.0035 credits, for one allocation each"
    assert said[3].split() == [
        "SETTING",
        "PRESENT",
        "1",
        "OF",
        "4",
        "PAYS",
        "LESS",
        "HALF",
        "PAY",
        "1",
        "OF",
        "4",
        "PAYS",
        "MORE",
        "SUGGESTED",
    ]
    assert any(line.startswith("provider.price_cpu_core") for line in said)
    assert "lower: more than a quarter of the requesters would not have paid the present price" in said


def test_bids_and_requests(dms: Dms, tmp_path: Path) -> None:
    assert dms("bids").stdout == "no bids\n"
    job = dms.submit(tmp_path)
    assert "committed" in dms("bids", "--job", job).stdout
    assert "0.0012 credits" in dms("bids").stdout
    assert dms("bids", "--direction", "sent").stdout == "no bids\n"
    assert short(job) in dms("bids", "--requests").stdout


def test_allocations(dms: Dms, tmp_path: Path) -> None:
    assert dms("alloc", "list").stdout == "no allocations\n"
    dms.submit(tmp_path)
    (allocation,) = dms.json("alloc", "list")["allocations"]
    name = allocation["allocation_id"]
    assert "completed" in dms("alloc", "list").stdout
    assert f"Allocation {name}" in dms("alloc", "show", name[:10]).stdout
    assert dms("alloc", "logs", name).stdout == "hello\n"
    assert dms("alloc", "cancel", name).stdout == f"{short(name)} had already ended\n"


def test_preferences_are_shown_set_and_checked(dms: Dms, tmp_path: Path) -> None:
    assert "price 40" in dms("prefs", "get").stdout
    assert dms("prefs", "set", "cheapest").exit_code == 0
    assert dms.json("prefs", "get")["weights"] == {"price": 100.0}
    path = tmp_path / "prefs.yaml"
    path.write_text("constraints: ['!link.relayed']\nweights: {speed: 1}\n")
    assert dms("prefs", "set", str(path), "--dry-run").exit_code == 0
    assert dms.json("prefs", "get")["weights"] == {"price": 100.0}
    assert dms("prefs", "set", str(path)).exit_code == 0
    assert dms.json("prefs", "get") == {"constraints": ["!link.relayed"], "weights": {"speed": 1.0}}
    path.write_text("wieghts: {}")
    assert "wieghts" in dms("prefs", "set", str(path)).stderr
    wrong = dms("prefs", "set", "cheepest")
    assert (wrong.exit_code, "did you mean 'cheapest'?" in wrong.stderr) == (2, True)
    assert set(dms.json("prefs", "presets")) == {"balanced", "cheapest", "fastest", "own-machines-first", "evenly"}
    assert "own-machines-first" in dms("prefs", "presets").stdout


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["node", "capability"],
        ["node", "id"],
        ["node", "benchmark"],
        ["node", "pause"],
        ["job", "list"],
        ["job", "schema"],
        ["alloc", "list"],
        ["bids"],
        ["price", "suggest"],
        ["bids", "--requests"],
        ["prefs", "get"],
        ["peers", "list"],
        ["peers", "ping", "alpha"],
        ["peers", "ban", "alpha"],
        ["invite"],
        ["join", "dms1x"],
        ["events", "query"],
        ["events", "verify"],
        ["doctor"],
        ["version"],
    ],
    ids=" ".join,
)
def test_every_output_has_a_json_form(dms: Dms, command: list[str]) -> None:
    assert isinstance(dms.json(*command), dict)


def test_an_audit_file_is_written_and_checked_without_a_node(dms: Dms, tmp_path: Path) -> None:
    file = tmp_path / "job.audit"
    assert dms("run", "--", "true").exit_code == 0
    job = dms.json("job", "list")["jobs"][0]["job_id"]

    assert dms("audit", "export", job[:8], "--out", str(file)).stdout == (
        f"0 events of job {job} in {file}; dms audit verify {file} checks it\n"
    )
    assert dms("audit", "export", job[:8]).stdout == file.read_text()

    file.write_text("something else")
    refused = dms("audit", "export", job[:8], "--out", str(file))
    assert (refused.exit_code, file.read_text()) == (2, "something else")
    assert "is there already [bad_argument]; --force replaces it" in refused.stderr
    assert dms("audit", "export", job[:8], "--out", str(file), "--force").exit_code == 0

    assert dms("down").exit_code == 0
    assert dms("audit", "verify", str(file)).stdout.startswith("sound: 0 events and 0 signed frames of job ")
    assert dms.json("audit", "verify", str(file))["sound"] is True


def test_a_fault_in_an_audit_file_is_named_and_exits_with_1(dms: Dms, tmp_path: Path) -> None:
    file = tmp_path / "job.audit"
    file.write_bytes(Story().file().replace(b'"line":5', b'"line":6'))

    result = dms("audit", "verify", str(file))

    assert result.exit_code == 1
    assert "line 5: missing: line 5 is missing\n" in result.stdout
    assert "line 6: repeated: line 6 is there twice\n" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].endswith("this proves nothing until they are explained")
    assert lines.index("line 5: missing: line 5 is missing") < next(
        number for number, line in enumerate(lines) if line.startswith("Agreement ")
    )


def test_what_is_no_audit_file_is_said_to_be_none_in_a_few_lines(dms: Dms, tmp_path: Path) -> None:
    file = tmp_path / "noise"
    file.write_bytes(b"\x00\xff\n" * 500)

    told = dms("audit", "verify", str(file)).stdout.splitlines()

    assert told[1] == "nothing in it can be read: it is no file that dms audit export has written"
    assert told[2].startswith("unsealed: ")
    assert told[-1].endswith(" more; --json lists them all")
    assert len(told) < 30


def test_an_audit_file_tells_what_was_agreed_run_and_owed(dms: Dms, tmp_path: Path) -> None:
    file = tmp_path / "job.audit"
    file.write_bytes(Story().change("receipt", price=4).file())

    told = dms("audit", "verify", str(file)).stdout

    assert f"  provider   {PROVIDER.peer_id}\n" in told
    assert "  signed by  requester and provider\n" in told
    assert "  agreed     1 allocation of 1 core, 1 GiB memory, up to 1m 0s each\n" in told
    assert "disputed: price: the provider says 10, the requester 4\n" in told
    assert told.endswith("; 0.000004 credits confirmed as owed\n")


def test_an_audit_file_that_is_not_there_is_an_error_of_use(dms: Dms, tmp_path: Path) -> None:
    result = dms("audit", "verify", str(tmp_path / "none"))

    assert (result.exit_code, "cannot be read: No such file or directory [bad_argument]" in result.stderr) == (2, True)


def test_an_error_in_json_mode_is_json(dms: Dms) -> None:
    result = dms("job", "show", "r-nope", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"] == {
        "code": "not_found",
        "message": "no job 'r-nope' here",
        "hint": "dms job list shows them",
        "retryable": False,
    }


def test_down_stops_the_node_and_waits_until_it_is_gone(dms: Dms, home: Home) -> None:
    assert dms("down").stdout == "the node is down\n"
    assert not home.socket.exists()
    result = dms("status")
    assert (result.exit_code, "[not_onboarded]; dms onboard makes one" in result.stderr) == (1, True)
    home.identity_key.touch()
    assert "[node_not_running]; dms up -d starts one" in dms("status").stderr


def test_without_a_node_a_check_that_there_is_not_is_no_success(dms: Dms) -> None:
    dms("down")
    result = dms("doctor", "--only", "nosuch")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no check 'nosuch' without a running node [bad_argument]; checks: identity, " in result.stderr


def test_up_with_a_running_node_says_so(dms: Dms) -> None:
    assert "already running" in dms("up", "-d").stdout
    assert dms.json("up", "-d")["already_running"] is True


def test_the_home_may_be_given_before_the_command_or_after_it(dms: Dms, tmp_path: Path) -> None:
    home = str(dms.served.home.root)
    elsewhere = CliRunner(env={"DMS_HOME": str(tmp_path / "nothing")})
    assert elsewhere.invoke(cli, ["--home", home, "status"]).exit_code == 0
    assert elsewhere.invoke(cli, ["status", "--home", home]).exit_code == 0
    assert elsewhere.invoke(cli, ["--home", str(tmp_path), "status", "--home", home]).exit_code == 0
    assert elsewhere.invoke(cli, ["status"]).exit_code == 1


def test_token_prints_the_token_alone_and_rotates_it(dms: Dms, home: Home) -> None:
    assert "[not_onboarded]" in dms("token").stderr
    home.identity_key.touch()
    full, reading = dms("token").stdout, dms("token", "--read").stdout
    assert (full, reading) == (home.token.read_text(), home.reading_token.read_text())
    assert full != reading
    assert dms.json("token") == {"token": full.strip(), "access": "full", "path": str(home.token)}
    assert dms("token", "--read", "--rotate").stdout not in (full, reading)
    assert (dms("token").stdout, dms("token", "--read").stdout) == (full, home.reading_token.read_text())


def test_a_token_that_others_can_read_is_not_printed(dms: Dms, home: Home) -> None:
    home.identity_key.touch()
    dms("token")
    home.token.chmod(0o644)
    refused = dms("token")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"chmod 600 {home.token}" in refused.stderr
