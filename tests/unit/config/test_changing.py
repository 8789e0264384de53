"""One setting changed in a file that its owner has written: the rest stays as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dms.config.changing import with_setting, write_config
from dms.config.loading import parse_config
from dms.config.reference import template
from dms_proto.errors import UserError

FILE = Path("config.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        template(),
        template({"provider.cpu": "2", "network.mdns": False}),
        "version = 1\n[network]\nmdns = false\n\n[provider]\ncpu = 2\n",
        "version = 1\n[provider]\ncpu = 2\n# [network] is not here\n",
    ],
)
def test_the_setting_is_there_and_every_other_stays(text: str) -> None:
    before, after = parse_config(text, FILE, {}), parse_config(with_setting(text, "network.topic", "lab"), FILE, {})
    assert after.network.topic == "lab"
    assert (before.provider, before.market, before.network.mdns) == (after.provider, after.market, after.network.mdns)


def test_in_a_file_that_explains_itself_the_line_is_where_it_is_explained() -> None:
    before, after = template().splitlines(), with_setting(template(), "network.topic", 'the "lab"').splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [('#topic = "public"', 'topic = "the \\"lab\\""')]


def test_what_is_no_config_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    write_config(file, template())
    file.chmod(0o640)
    with pytest.raises(UserError):
        write_config(file, with_setting(template(), "network.topic", ""))
    assert file.read_text() == template()
    write_config(file, with_setting(template(), "network.topic", "lab"))
    assert tomllib.loads(file.read_text())["network"] == {"topic": "lab"}
    assert file.stat().st_mode & 0o777 == 0o640
