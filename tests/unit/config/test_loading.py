from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.config.loading import load_config, parse_config
from dms.config.paths import Home
from dms.config.reference import settings, template
from dms.config.settings import Config, Market, Provider
from dms_proto.capability import Isolation, JobClass
from dms_proto.errors import UserError
from dms_proto.units import GIB

FILE = Path("config.toml")


def parse(text: str = "", **environ: str) -> Config:
    return parse_config(text, FILE, environ)


def refusal(text: str = "", **environ: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse(text, **environ)
    assert caught.value.code == "bad_config"
    return caught.value


def test_without_file_and_variables_everything_has_its_default(tmp_path: Path) -> None:
    assert load_config(Home(tmp_path), {}) == Config()


def test_a_file_in_the_home_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[node]\nname = "lab-3"\n')
    assert load_config(Home(tmp_path), {}).node.name == "lab-3"


def test_quantities_are_written_with_their_units() -> None:
    text = """
    [provider]
    cpu = "2.5"
    memory = "4GiB"
    disk = 1000
    price_cpu_core = 0.02
    price_disk_gib = 0.00002
    max_wall_ms = "2h"
    [market]
    bid_validity_ms = "15s"
    window_ms = 100
    [network]
    keepalive_s = "1m"
    """
    config = parse(text)
    assert config.provider == Provider(
        cpu=2500, memory=4 * GIB, disk=1000, price_cpu_core=20_000, price_disk_gib=20, max_wall_ms=7_200_000
    )
    assert config.market == Market(bid_validity_ms=15_000, window_ms=100)
    assert config.network.keepalive_s == 60


@pytest.mark.parametrize(("cpu", "millicores"), [("2", 2000), ("0.5", 500), ('"500m"', 500), ('"1.5"', 1500)])
def test_a_bare_number_of_cpu_is_cores(cpu: str, millicores: int) -> None:
    assert parse(f"[provider]\ncpu = {cpu}").provider.cpu == millicores


def test_words_become_members_of_their_enum() -> None:
    config = parse('[provider]\njob_classes = ["batch"]\n[executors]\nminimum_isolation = "wasm"')
    assert config.provider.job_classes == (JobClass.BATCH,)
    assert config.executors.minimum_isolation is Isolation.WASM


def test_the_environment_overrides_the_file() -> None:
    text = '[market]\nwindow_ms = 100\nbids_wanted = 2\n[node]\nname = "a"'
    config = parse(text, DMS_MARKET_WINDOW_MS="300", DMS_NODE_NAME="b", DMS_HOME="/elsewhere", PATH="x")
    assert (config.market.window_ms, config.market.bids_wanted, config.node.name) == (300, 2, "b")


def test_every_kind_of_setting_can_come_from_the_environment() -> None:
    config = parse(
        DMS_PROVIDER_CPU="1.5",
        DMS_PROVIDER_ENABLED="no",
        DMS_PROVIDER_PRICE_START="0.001",
        DMS_NETWORK_LISTEN="/ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/0",
        DMS_NODE_LABELS="room=lab, floor=2",
        DMS_RPC_PORT="0",
        DMS_MARKET_BID_VALIDITY_MS="20s",
        DMS_EXECUTORS_ENABLED="wasm",
    )
    assert config.provider.cpu == 1500
    assert config.provider.enabled is False
    assert config.provider.price_start == 1000
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")
    assert config.node.labels == {"room": "lab", "floor": "2"}
    assert config.rpc.port == 0
    assert config.market.bid_validity_ms == 20_000
    assert config.executors.enabled == ("wasm",)


def test_an_unknown_setting_is_refused_with_line_and_nearest_name() -> None:
    error = refusal("[node]\nname = 'x'\n\n[market]\nbids_wanted = 3\nwindow_mss = 250\n")
    assert error.message == "config.toml:6: market.window_mss is not a setting"
    assert error.hint == "did you mean market.window_ms?"


def test_a_setting_in_the_wrong_section_is_pointed_to_the_right_one() -> None:
    assert refusal("[market]\nmdns = false").hint == "did you mean network.mdns?"
    assert refusal("mdns = false").hint == "did you mean network.mdns?"


def test_an_unknown_section_is_refused_with_line_and_nearest_name() -> None:
    error = refusal("# mine\n[markt]\nbids_wanted = 3")
    assert error.message == "config.toml:2: markt is not a setting"
    assert error.hint == "did you mean market?"


def test_a_name_like_no_other_points_to_the_list() -> None:
    assert "config.toml" in refusal("[market]\nqqqqq = 3").hint


def test_an_unknown_variable_with_a_sections_prefix_is_refused() -> None:
    error = refusal(DMS_MARKET_WINDOWMS="3")
    assert "DMS_MARKET_WINDOWMS" in error.message
    assert error.hint == "did you mean DMS_MARKET_WINDOW_MS?"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[market]\nwindow_ms = 0", "config.toml:2: market.window_ms is 0: expected `int` >= 1"),
        ("[market]\nwindow_ms = true", "config.toml:2: market.window_ms is True: expected `int`"),
        ('[market]\nwindow_ms = "soon"', "config.toml:2: market.window_ms: 'soon' is not a duration"),
        ("[provider]\n\ncpu = -1", "config.toml:3: provider.cpu: '-1' is not a number of cores"),
        ('[provider]\nmemory = "4 parsecs"', "config.toml:2: provider.memory: '4 parsecs' is not a size"),
        ("[provider]\nmemory = -4", "config.toml:2: provider.memory is -4: expected `int` >= 0"),
        ('[node]\nname = "a b"', "config.toml:2: node.name is 'a b': expected `str` matching"),
        ('[node]\ncountry = "Germany"', "config.toml:2: node.country is 'Germany': expected"),
        ('[network]\nlisten = ["127.0.0.1:4600"]', "config.toml:2: network.listen is ['127.0.0.1:4600']: expected"),
        ('[network]\nkeepalive_s = "1500ms"', "not a whole number of seconds"),
        ('[executors]\nminimum_isolation = "strong"', "config.toml:2: executors.minimum_isolation is 'strong'"),
        ("[rpc]\nport = 70000", "config.toml:2: rpc.port is 70000: expected `int` <= 65535"),
        ("[rpc]\nport = 0.5", "config.toml:2: rpc.port is 0.5"),
        ("market = 3", "config.toml:1: market is a section; write [market]"),
        ("[market", "config.toml is not TOML"),
        ("[market]\na = 1\nb = = 2\n", "(at line 3, column"),
        ("version = 99", "config.toml:1: version is 99, and this dms reads up to 1"),
        ("version = 'one'", "version is 'one', not a positive whole number"),
    ],
)
def test_a_bad_value_is_refused_with_place_setting_value_and_rule(text: str, says: str) -> None:
    assert says in refusal(text).message


def test_who_adds_a_section_that_is_there_is_told_that_it_stands_once() -> None:
    """The file that a node writes has all of them, so whoever pastes one from a page has it twice."""
    twice = refusal(template() + '[pool]\ncpu = "1"\n')
    assert "'pool'" in twice.message
    assert "each [section] stands once" in twice.hint


def test_a_bad_variable_is_refused_by_its_name() -> None:
    assert "environment DMS_RPC_PORT: rpc.port is 'x'" in refusal(DMS_RPC_PORT="x").message
    assert "environment DMS_PROVIDER_CPU" in refusal(DMS_PROVIDER_CPU="lots").message
    assert "environment DMS_RPC_HTTP: rpc.http is 'maybe'" in refusal(DMS_RPC_HTTP="maybe").message


def test_dotted_keys_and_inline_tables_are_located_too() -> None:
    assert refusal("market.window_mss = 1").message.startswith("config.toml:1:")
    assert refusal("\nmarket = {window_mss = 1}").message.startswith("config.toml:2:")


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(Home(tmp_path), {})


def test_a_file_too_large_to_be_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(UserError, match="bytes, more than"):
        load_config(Home(tmp_path), {})


def test_the_template_says_everything_and_changes_nothing() -> None:
    text = template()
    assert parse(text) == Config()
    for setting in settings():
        assert f"\n#{setting.name} = " in text


def test_the_template_with_every_line_in_force_is_still_the_default() -> None:
    lines = (
        line.removeprefix("#") if line.startswith("#") and line[1:2].isalpha() else line
        for line in template().splitlines()
    )
    text = "\n".join(line for line in lines if not line.endswith("(unset)"))
    assert "window_ms = 250" in text.splitlines()
    assert parse(text) == Config()


def test_chosen_settings_are_in_force_in_the_template() -> None:
    text = template({"provider.cpu": "2", "node.labels": {"room": 'a "b"'}, "network.mdns": False})
    config = parse(text)
    assert (config.provider.cpu, config.node.labels, config.network.mdns) == (2000, {"room": 'a "b"'}, False)


@given(st.text(max_size=300))
def test_any_text_is_a_configuration_or_refused_as_one(text: str) -> None:
    outcome: object
    try:
        outcome = parse(text)
    except UserError as error:
        outcome = error
    assert isinstance(outcome, Config) or outcome.code == "bad_config"


@given(st.sampled_from([setting.env for setting in settings()]), st.text(max_size=30))
def test_any_text_in_a_variable_is_taken_or_refused_by_name(variable: str, text: str) -> None:
    message = variable  # most texts are refused, some are values
    try:
        parse(**{variable: text})
    except UserError as error:
        message = error.message
    assert variable in message
