"""The wallet: grants are kept privately, shown to those who want them, and only in a form bound to this node."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.config import Home
from dms.testing.samples import REQUESTER, STRANGER
from dms.trust.grant import FORM, issue, narrow, read_grant
from dms.trust.wallet import Held, Wallet
from dms_proto.errors import UserError
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.revocations import revoke
from dms_proto.grants.rights import TIME, Rights
from dms_proto.ids import PeerId
from dms_proto.wire import Signer

SEED = b"\x07" * 32
ISSUER = Signer(SEED).peer_id
ME = REQUESTER.peer_id
PROVIDER = STRANGER.peer_id


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_a_kept_grant_is_there_after_a_restart_and_private(home: Home) -> None:
    held = Wallet(home, ME).keep(issue(SEED, Rights()))
    assert home.grants.stat().st_mode & 0o777 == 0o600
    assert list(Wallet(home, ME).held) == [held.grant_id]


def test_others_who_can_read_the_file_stop_the_start(home: Home) -> None:
    Wallet(home, ME).keep(issue(SEED, Rights()))
    home.grants.chmod(0o640)
    with pytest.raises(UserError, match="others can use it"):
        Wallet(home, ME)


FOR_ANOTHER = FORM.write(issue(SEED, Rights(one_of={"peer": (PROVIDER,)})))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"junk", "begin with dmsg1:"),
        (FORM.write(issue(SEED, Rights())).encode()[:-9], "checksum"),
        (FORM.write(b"nothing").encode(), "does not verify"),
        (FOR_ANOTHER.encode(), "for another node"),
        (b"\xff\xfe\x00", "begin with dmsg1:"),
        (b"dmsg2:later used", "newer form"),
    ],
)
def test_a_line_that_cannot_be_read_is_set_aside_and_stays_as_it_is(
    home: Home, line: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Wallet(home, ME).keep(issue(SEED, Rights()))
    good = home.grants.read_bytes()
    home.grants.write_bytes(line + b"\n" + good)

    wallet = Wallet(home, ME)
    assert list(wallet.held) == [first.grant_id]
    (aside,) = wallet.set_aside
    assert aside.number == 1
    assert why in aside.why
    assert f"line 1 of {home.grants} is set aside" in caplog.text

    second = wallet.keep(issue(SEED, Rights(at_most={TIME: 2_000_000_000_000})))
    assert home.grants.read_bytes().splitlines()[-1] == line
    again = Wallet(home, ME)
    assert list(again.held) == [first.grant_id, second.grant_id]
    assert [one.line for one in again.set_aside] == [aside.line]


def test_nothing_is_shown_to_who_wants_none_or_one_of_others(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.keep(issue(SEED, Rights()))
    assert wallet.shown_to(PROVIDER) == b""
    wallet.note(PROVIDER, (PROVIDER,))
    assert wallet.shown_to(PROVIDER) == b""
    wallet.note(PROVIDER, (PROVIDER, ISSUER))
    assert wallet.shown_to(PROVIDER)
    wallet.note(PROVIDER, ())
    assert wallet.shown_to(PROVIDER) == b""


def test_what_is_shown_is_for_this_node_alone(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    wallet.keep(issue(SEED, Rights()))
    shown = read_grant(wallet.shown_to(PROVIDER))
    assert shown is not None
    assert shown.rights.one_of == {"peer": (ME,)}


def test_of_several_the_one_that_ends_last_is_shown(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    for end in (1_000_000, 3_000_000, 2_000_000):
        wallet.keep(issue(SEED, Rights({TIME: end})))
    shown = read_grant(wallet.shown_to(PROVIDER))
    assert shown is not None
    assert shown.rights.until == 3_000_000


def test_what_is_revoked_by_who_may_is_shown_only_where_there_is_nothing_else(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    held = wallet.keep(issue(SEED, Rights()))
    wallet.hear((revoke(Signer(b"\x08" * 32), held.grant_id, 0),))
    assert wallet.shown_to(PROVIDER) == held.bound, "whoever else says so"
    forged = msgspec.structs.replace(revoke(Signer(b"\x08" * 32), held.grant_id, 0), signer=ISSUER)
    wallet.hear((forged,))
    assert not wallet.void

    wallet.hear((revoke(Signer(SEED), held.grant_id, 0),))

    assert wallet.void == {held.grant_id}
    assert wallet.shown_to(PROVIDER) == held.bound, "who is shown it says what is wrong with it"
    other = wallet.keep(issue(SEED, Rights({TIME: 1})))
    assert wallet.shown_to(PROVIDER) == other.bound


def test_a_grant_for_others_and_what_is_none_are_not_kept(home: Home) -> None:
    wallet = Wallet(home, ME)
    with pytest.raises(UserError, match="for another node"):
        wallet.keep(issue(SEED, Rights(one_of={"peer": (PeerId(PROVIDER),)})))
    with pytest.raises(UserError, match="does not verify"):
        wallet.keep(b"x" * 100)
    assert not home.grants.exists()


def test_a_forgotten_grant_is_gone_for_good(home: Home) -> None:
    wallet = Wallet(home, ME)
    held = wallet.keep(issue(SEED, Rights()))
    wallet.forget(held.grant_id)
    assert not wallet.held
    assert not Wallet(home, ME).held


def test_who_is_not_asked_by_name_is_shown_what_most_want_to_see(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    assert wallet.shown_to_most() == b""
    ours, other = wallet.keep(issue(SEED, Rights())), wallet.keep(issue(b"\x08" * 32, Rights()))
    assert wallet.shown_to_most() == ours.bound

    for peer in (REQUESTER.peer_id, ISSUER):
        wallet.note(peer, (other.proven.issuer,))
    assert wallet.shown_to_most() == other.bound


HOUR = 3_600_000
RENEWAL = Renewal(100 * HOUR, 3 * HOUR)


def renewal_of(before: Held, end: int = 6 * HOUR, seed: bytes = SEED) -> bytes:
    return issue(seed, Rights({TIME: end}), RENEWAL, before.proven.origin)


def renewable(wallet: Wallet) -> Held:
    return wallet.keep(issue(SEED, Rights({TIME: 3 * HOUR}), RENEWAL))


def test_a_grant_is_due_once_it_was_shown_and_its_end_is_near(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    held = renewable(wallet)
    assert not wallet.due(2 * HOUR)
    wallet.shown_to(PROVIDER)
    assert not wallet.due(2 * HOUR - 1)
    assert wallet.due(2 * HOUR) == (held,)
    assert not wallet.due(3 * HOUR + 31_000), "it has ended"


def test_that_a_grant_was_shown_is_known_after_a_restart(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    held, other = renewable(wallet), wallet.keep(issue(b"\x08" * 32, Rights({TIME: 3 * HOUR}), RENEWAL))
    wallet.shown_to(PROVIDER)
    wallet.save_used()
    again = Wallet(home, ME)
    assert [one.grant for one in again.held.values()] == [held.grant, other.grant]
    assert [one.grant_id for one in again.due(2 * HOUR)] == [held.grant_id]


def test_what_runs_out_is_revoked_or_was_made_here_is_not_asked_for(home: Home) -> None:
    wallet = Wallet(home, ISSUER)
    wallet.note(PROVIDER, (ISSUER,))
    renewable(wallet)
    wallet.shown_to(PROVIDER)
    assert not wallet.due(2 * HOUR), "this node made it itself"

    other = Wallet(home, ME)
    other.note(PROVIDER, (ISSUER,))
    other.forget(*other.held)
    held = renewable(other)
    other.shown_to(PROVIDER)
    other.hear((revoke(Signer(SEED), held.grant_id, 0),))
    assert not other.due(2 * HOUR)


def test_a_renewal_takes_the_place_of_what_it_stands_for_durably(home: Home) -> None:
    wallet = Wallet(home, ME)
    held = renewable(wallet)
    beside = wallet.keep(issue(SEED, Rights()))

    new = wallet.renew(renewal_of(held), ISSUER)

    assert new is not None
    assert list(Wallet(home, ME).held) == [beside.grant_id, held.grant_id]
    assert new.grant_id == held.grant_id, "it is known by the same id"
    assert Wallet(home, ME).held[held.grant_id].grant == new.grant
    assert wallet.renew(renewal_of(held), ISSUER) is None, "a repeat goes on no further"
    assert wallet.renew(renewal_of(held, 9 * HOUR), ISSUER) is not None, "a renewal is renewed"
    assert len(wallet.held) == 2


def test_what_is_no_renewal_by_who_made_the_grant_takes_no_place(home: Home) -> None:
    wallet = Wallet(home, ME)
    held = renewable(wallet)
    for grant, sender in (
        (renewal_of(held), PROVIDER),
        (renewal_of(held, 2 * HOUR), ISSUER),
        (renewal_of(held, seed=b"\x08" * 32), ISSUER),
        (narrow(renewal_of(held), Rights({"cpu": 1})), ISSUER),
    ):
        assert wallet.renew(grant, sender) is None
    assert list(wallet.held.values()) == [held]


def test_of_one_grant_and_its_renewals_the_text_that_ends_last_is_kept(home: Home) -> None:
    wallet = Wallet(home, ME)
    held = renewable(wallet)
    later = wallet.keep(renewal_of(held))
    assert wallet.keep(held.grant) == later
    assert list(wallet.held.values()) == [later]
    with pytest.raises(UserError, match="which somebody else has made"):
        wallet.keep(renewal_of(held, 9 * HOUR, seed=b"\x08" * 32))


def test_a_renewal_is_due_only_once_it_was_shown_itself(home: Home) -> None:
    wallet = Wallet(home, ME)
    wallet.note(PROVIDER, (ISSUER,))
    held = renewable(wallet)
    wallet.shown_to(PROVIDER)
    wallet.renew(renewal_of(held), ISSUER)
    assert not wallet.due(5 * HOUR)
    wallet.shown_to(PROVIDER)
    assert wallet.due(5 * HOUR)
