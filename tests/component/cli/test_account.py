"""dms account: balances, statements as text and CSV, limits, payments, IOUs."""

from __future__ import annotations

import csv
import io
import json

import pytest

from dms.cli.views.accounts import as_csv
from dms.rpc.api.accounts import EntryView
from dms.testing.commands import Dms
from dms.testing.node_jobs import ALPHA
from dms_proto.accounts.book import payment
from dms_proto.ids import PeerId, short


def test_the_balance_with_every_peer(dms: Dms) -> None:
    result = dms("account", "show")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split("  ")[0] == f"alpha ({short(ALPHA)})"
    assert "we owe 0.02 credits" in lines[1]
    assert "owes us 1 credit" in lines[2]
    assert "0.25 credits" in lines[2]
    assert lines[3] == "others may owe 100 credits each, and we 100 credits to each"


def test_a_statement_in_words_and_as_json(dms: Dms) -> None:
    words, data = dms("account", "statement", "beta"), dms("account", "statement", "beta", "--json")

    assert [line.split()[3] for line in words.stdout.splitlines()[1:]] == ["receipt", "claim"]
    assert "+0.25 credits" in words.stdout
    assert [entry["disputed"] for entry in json.loads(data.stdout)["entries"]] == [250_000, 0]


@pytest.mark.parametrize("command", [("statement", "beta"), ("export",)])
def test_csv_has_every_entry_oldest_first_and_each_adds_up_to_nothing(dms: Dms, command: tuple[str, ...]) -> None:
    result = dms("account", *command, "--csv")

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["why"] for row in rows][-2:] == ["claim", "receipt"]
    accounts = ("open", "noted", "claimed", "disputed", "income", "expense", "paid")
    assert [sum(int(row[name]) for name in accounts) for row in rows] == [0] * len(rows)


def test_no_text_of_another_node_becomes_a_formula() -> None:
    entry = EntryView(1, 0, PeerId("p"), "payment", "x", "", 0, 0, 0, 0, 0, 0, 0, "=HYPERLINK(1)")
    assert list(as_csv([entry]))[1].endswith(",'=HYPERLINK(1)")


def test_a_limit_is_set_and_taken_back(dms: Dms) -> None:
    assert "25 credits; 23.75 credits are left" in dms("account", "limit", "beta", "25").stdout
    assert "may owe     100 credits" in dms("account", "limit", "beta", "default").stdout


def test_the_most_we_may_owe_a_peer_is_another_limit(dms: Dms) -> None:
    shown = dms("account", "limit", "alpha", "5", "--ours").stdout
    assert "we may owe  5 credits; 4.98 credits are left" in shown
    assert "may owe     100 credits" in shown
    assert "we may owe  100 credits" in dms("account", "limit", "alpha", "default", "--ours").stdout


def test_a_payment_in_either_direction(dms: Dms) -> None:
    assert "nothing is owed" in dms("account", "deposit", "beta", "1", "--note", "invoice 7").stdout
    assert "owes us 0.98 credits" in dms("account", "deposit", "alpha", "1", "--paid").stdout
    assert "invoice 7" in dms("account", "statement", "beta").stdout


def test_settling_by_iou_and_in_the_own_book(dms: Dms) -> None:
    assert "number 1 over 0.02 credits" in dms("account", "settle", "alpha").stdout
    assert "nothing is owed" in dms("account", "settle", "beta", "--by", "local").stdout


def test_an_amount_that_is_none_is_refused(dms: Dms) -> None:
    result = dms("account", "deposit", "beta", "much")
    assert (result.exit_code, "AMOUNT" in result.stderr) == (2, True)
    assert ', nor "default"' in dms("account", "limit", "alpha", "foo").stderr


def test_an_unknown_peer_is_refused(dms: Dms) -> None:
    assert "[not_found]" in dms("account", "limit", "nobody", "1").stderr


def test_disputes_are_listed_with_who_asks_and_settled_by_either(dms: Dms) -> None:
    listed = dms("account", "disputes").stdout
    assert [line.split()[4] for line in listed.splitlines()[1:3]] == ["them", "us"]
    assert "0.005 credits asked of us" in dms("account", "limit", "alpha", "default").stdout

    assert "we owe 0.025 credits" in dms("account", "accept", "alpha", "a-01").stdout
    assert "disputed    0 credits" in dms("account", "forgive", "beta", "--all").stdout

    assert dms("account", "disputes").stdout == "nothing is in dispute\n"
    assert dms("account", "statement", "beta").stdout.splitlines()[1].split()[3] == "forgiven"


def test_tabs_are_listed_with_who_pays_and_why_one_is_over(dms: Dms) -> None:
    ours, theirs = dms("account", "tabs").stdout.splitlines()[1:]
    assert ("we pay" in ours, ours.rstrip().endswith("open")) == (True, True)
    assert ("it pays" in theirs, "over: it was not used any more" in theirs) == (True, True)
    assert [tab["ours"] for tab in json.loads(dms("account", "tabs", "--json").stdout)["tabs"]] == [True, False]


@pytest.mark.parametrize(
    "arguments", [("forgive", "beta"), ("forgive", "beta", "a-2", "--all"), ("accept", "beta", "a-2")]
)
def test_what_is_not_in_dispute_cannot_be_settled(dms: Dms, arguments: tuple[str, ...]) -> None:
    result = dms("account", *arguments)
    assert (result.exit_code > 0, "dms account disputes" in result.stderr) == (True, True)


def test_what_is_wrong_in_the_accounts_is_told_and_exits_with_1(dms: Dms) -> None:
    wrong = dms("account", "verify")
    assert (wrong.exit_code, "no allocation of that id ended here" in wrong.stdout) == (1, True)
    dms("account", "forgive", "beta", "--all")
    dms("account", "accept", "alpha", "a-01")
    right = dms("account", "verify")
    assert (right.exit_code, right.stdout) == (0, "right: 6 entries follow from what was signed\n")


def test_an_export_is_whole_however_many_entries_there_are(dms: Dms) -> None:
    """The newest 10,000 were all there was."""
    node = dms.served.node
    made = [payment(ALPHA, 1, f"p-{number}") for number in range(10_500)]
    node._entries += made

    table = list(csv.DictReader(io.StringIO(dms("account", "export", "--csv").stdout)))
    data = json.loads(dms("account", "export", "--json").stdout)["entries"]

    assert [row["about"] for row in table][-len(made) :] == [entry.about for entry in made]
    assert (
        [str(entry["seq"]) for entry in data]
        == [row["seq"] for row in table]
        == [str(n) for n in range(1, len(table) + 1)]
    )
    assert len(dms("account", "export").stdout.splitlines()) == 1 + len(table)
