"""dms grant: what a person says of a grant is what is made, and what it says of it."""

from __future__ import annotations

import pytest

from dms.testing.commands import Dms
from dms_proto.units import DAY, SECOND


def test_a_grant_is_renewed_for_as_long_as_its_maker_says(dms: Dms) -> None:
    text = dms("grant", "create", "--bearer", "--until", "7d", "--renew", "365d").stdout.strip()
    shown = dms("grant", "inspect", text).stdout
    assert ", renewed in use until 20" in shown
    promised = dms.json("grant", "inspect", text)["renewal"]
    assert promised["until"] % SECOND == 0
    listed = dms("grant", "list").stdout
    assert "renewed in use until" in listed
    assert dms.json("grant", "inspect", dms("grant", "create", "--bearer").stdout.strip())["renewal"] is None
    assert promised["span_ms"] >= DAY


@pytest.mark.parametrize(("renew", "says"), [("never", "--renew never"), ("soon", "--renew soon"), ("", "--renew ")])
def test_how_long_it_is_renewed_is_a_span_or_a_date(dms: Dms, renew: str, says: str) -> None:
    refused = dms("grant", "create", "--bearer", "--renew", renew)
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_what_is_passed_on_is_promised_nothing(dms: Dms) -> None:
    text = dms("grant", "create", "--bearer", "--until", "7d").stdout.strip()
    refused = dms("grant", "delegate", text, "--max-cpu", "1", "--renew", "30d")
    assert refused.exit_code == 2
    assert "No such option" in refused.stderr
