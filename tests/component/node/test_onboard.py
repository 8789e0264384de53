"""Onboarding a home that holds part of a node already, and onboarding that does not come to its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config import Home, identity
from dms.config.export import export, read, restore
from dms.config.key_file import Passphrase
from dms.config.loading import load_config
from dms.hardware.benchmark import VERSION, Benchmark
from dms.node.onboard import Onboarded, last_benchmark, onboard
from dms_proto.errors import UserError

pytestmark = pytest.mark.slow


async def onboarded(home: Home, *, again: bool = False, chosen: Mapping[str, Any] | None = None) -> Onboarded:
    return await onboard(home, chosen=chosen or {}, quick=True, again=again, measure=False, report=lambda _line: None)


async def test_a_key_without_names_gets_them_and_is_kept(tmp_path: Path) -> None:
    """As after a crash in between, or when the names were removed because they were of another time."""
    home = Home(tmp_path / "home")
    before = identity.create(home)
    home.identity_names.unlink()
    done = await onboarded(home)
    assert done.id == before.node_id
    assert identity.load(home).public() == before.public()
    with pytest.raises(UserError) as caught:
        await onboarded(home)
    assert caught.value.code == "already_onboarded"


async def test_a_restored_home_is_onboarded_again_as_the_same_node(tmp_path: Path) -> None:
    home, there, file = Home(tmp_path / "home"), Home(tmp_path / "there"), tmp_path / "me.json"
    before, secret = identity.create(home), Passphrase(b"open sesame", "the test")
    export(home, file, secret)
    restore(there, read(file.read_bytes(), "it"), [secret])
    there.config.write_text(f'[identity]\npassphrase_file = "{tmp_path / "secret"}"\n')
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_bytes(secret.secret)
    assert (await onboarded(there)).id == before.node_id


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("provider.cpuu", 3, "--set: provider.cpuu is not a setting; did you mean provider.cpu?"),
        ("provider.memory", "lots", "--set: provider.memory: 'lots' is not a size such as 512MiB or 4GiB; "),
        ("provider.cpu", 99_999, "provider.cpu is 99999 cores, and this machine has "),
        ("provider.constraints", ["a b"], "'a b' is not a valid expression"),
    ],
)
async def test_a_setting_that_cannot_be_kept_is_refused_before_there_is_a_key(
    tmp_path: Path, key: str, value: Any, said: str
) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(UserError) as caught:
        await onboarded(home, chosen={key: value})
    assert f"{caught.value.message}; {caught.value.hint}".startswith(said)
    assert not [file for file in home.root.rglob("*") if file.is_file()]
    await onboarded(home)


def test_onboarding_that_was_stopped_leaves_no_node_and_keeps_what_was_set(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    onboarding = [sys.executable, "-m", "dms.node", "onboard", "--home", str(home.root)]
    process = subprocess.Popen([*onboarding, "--set", "access.market=authorised"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.startswith("measuring ") for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not home.exists()
    again = subprocess.run([*onboarding, "--no-benchmark"], check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert load_config(home, {}).access.market == "authorised"


async def test_the_settings_of_a_node_are_not_replaced_by_a_few_new_ones(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    await onboarded(home, chosen={"access.market": "authorised"})
    with pytest.raises(UserError, match="--set writes config"):
        await onboarded(home, again=True, chosen={"node.name": "lab"})
    await onboarded(home, again=True)
    assert load_config(home, {}).access.market == "authorised"


def test_a_measurement_of_another_version_is_not_compared_with_one_of_this(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.cache.mkdir()
    for version, found in ((VERSION, True), (VERSION - 1, False)):
        (home.cache / "benchmark.json").write_bytes(msgspec.json.encode(Benchmark(version=version)))
        assert (last_benchmark(home) is not None) is found
