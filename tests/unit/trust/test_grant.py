"""Grants as tokens: what is written is read, narrowing never widens, and nobody but the issuer can grant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from biscuit_auth import (
    AuthorizationError,
    AuthorizerBuilder,
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    PrivateKey,
    PublicKey,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.testing.samples import STRANGER
from dms.trust.grant import FORM, MAX_BLOCKS, blocks, issue, narrow, read_grant, showable
from dms.trust.statements import LATEST, read_statements
from dms_proto.errors import UserError
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import CEILINGS, KINDS, TIME, Rights, Use
from dms_proto.wire import Signer

SEED = b"\x07" * 32
ISSUER = Signer(SEED)
PEERS = tuple(Signer(bytes([number]) * 32).peer_id for number in range(1, 4))
VALUES = {"kind": tuple(KINDS.values()), "job_class": ("batch", "interactive", "service"), "peer": PEERS}
SECONDS = st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1000)


@st.composite
def rights(draw: st.DrawFn) -> Rights:
    at_most = draw(st.dictionaries(st.sampled_from(tuple(CEILINGS)), st.integers(0, 2**53), max_size=3))
    if draw(st.booleans()):
        at_most[TIME] = draw(SECONDS)
    names = draw(st.sets(st.sampled_from(tuple(VALUES))))
    one_of = {name: tuple(sorted(draw(st.sets(st.sampled_from(VALUES[name]), min_size=1)))) for name in sorted(names)}
    return Rights(at_most, one_of)


@st.composite
def uses(draw: st.DrawFn) -> dict[str, Any]:
    """Every fact there is, near the bounds that `rights` draws from."""
    amounts = {name: draw(st.integers(0, 2**53)) for name in CEILINGS}
    return {**amounts, TIME: draw(SECONDS), **{name: draw(st.sampled_from(VALUES[name])) for name in VALUES}}


def attempt(grant: bytes, by: Rights) -> bytes:
    """The narrower grant, or the same where nothing would be left."""
    try:
        return narrow(grant, by)
    except UserError:
        return grant


def allows(grant: bytes, use: Use) -> bool:
    proven = read_grant(grant)
    assert proven is not None
    return not tuple(proven.rights.unmet(use))


@given(rights(), st.booleans())
def test_what_is_granted_is_read_again(granted: Rights, own: bool) -> None:
    wanted = Rights(granted.at_most, granted.one_of, own)
    proven = read_grant(issue(SEED, wanted))
    assert proven is not None
    assert proven.issuer == ISSUER.peer_id
    assert proven.rights == wanted


@settings(max_examples=300)
@given(rights(), st.lists(rights(), min_size=1, max_size=3), uses())
def test_a_narrower_grant_never_allows_more_than_what_it_was_made_from(
    granted: Rights, narrowings: list[Rights], use: dict[str, Any]
) -> None:
    grant = issue(SEED, granted)
    for by in narrowings:
        narrower = attempt(grant, by)
        assert allows(grant, use) or not allows(narrower, use)
        if narrower != grant:
            assert allows(narrower, use) == (allows(grant, use) and not tuple(by.unmet(use)))
        grant = narrower


@settings(max_examples=300)
@given(rights(), st.lists(rights(), max_size=2), uses())
def test_our_reading_agrees_with_what_a_biscuit_library_decides(
    granted: Rights, narrowings: list[Rights], use: dict[str, Any]
) -> None:
    grant = issue(SEED, granted)
    for by in narrowings:
        grant = attempt(grant, by)
    facts = "".join(
        f'{name}("{value}");' if isinstance(value, str) else f"{name}({value});" for name, value in use.items()
    )
    facts = facts.replace(f"time({use[TIME]})", "time({now})")
    builder = AuthorizerBuilder(facts + "allow if true;", {"now": datetime.fromtimestamp(use[TIME] // 1000, UTC)})
    limits = builder.limits()  # type: ignore[attr-defined] # missing from the library's stubs
    limits.max_time = timedelta(minutes=1)  # by default a busy machine makes it give up, and that looks like a refusal
    builder.set_limits(limits)  # type: ignore[attr-defined] # likewise
    token = Biscuit.from_bytes(grant[32:], PublicKey(f"ed25519/{ISSUER.public_key.hex()}"))
    try:
        builder.build(token).authorize()
        decided = True
    except AuthorizationError:
        decided = False
    assert allows(grant, use) == decided


def test_each_narrowing_has_an_id_of_its_own_and_carries_those_before_it() -> None:
    grant = issue(SEED, Rights())
    narrower = narrow(grant, Rights({"cpu": 1000}))
    before, after = read_grant(grant), read_grant(narrower)
    assert before is not None
    assert after is not None
    assert after.ids[:-1] == before.ids
    assert [part.said.rights for part in blocks(narrower)] == [Rights(), Rights({"cpu": 1000})]


def test_own_is_no_bound_and_survives_narrowing() -> None:
    proven = read_grant(narrow(issue(SEED, Rights(own=True)), Rights({"cpu": 1})))
    assert proven is not None
    assert proven.rights.own


def test_a_holder_cannot_make_itself_an_own_machine() -> None:
    token = Biscuit.from_bytes(issue(SEED, Rights())[32:], PublicKey(f"ed25519/{ISSUER.public_key.hex()}"))
    widened = token.append(BlockBuilder("own(true);"))
    assert read_grant(ISSUER.public_key + bytes(widened.to_bytes())) is None


@pytest.mark.parametrize(
    "source",
    [
        'check if country($x), $x == "DE"',
        "check if cpu($x), $x < 4",
        "right(1)",
        "check if cpu($x), $x <= 4 trusting previous",
    ],
)
def test_a_limit_that_is_not_understood_makes_the_grant_void(source: str) -> None:
    token = BiscuitBuilder(source).build(PrivateKey(f"ed25519-private/{SEED.hex()}"))
    assert read_grant(ISSUER.public_key + bytes(token.to_bytes())) is None


def test_a_grant_named_after_another_issuer_does_not_verify() -> None:
    assert read_grant(STRANGER.public_key + issue(SEED, Rights())[32:]) is None


@given(st.data())
def test_one_changed_byte_makes_the_grant_void(data: st.DataObject) -> None:
    grant = narrow(issue(SEED, Rights({"cpu": 4000})), Rights({"cpu": 1000}))
    at = data.draw(st.integers(0, len(grant) - 1))
    changed = grant[:at] + bytes([grant[at] ^ data.draw(st.integers(1, 255))]) + grant[at + 1 :]
    proven = read_grant(changed)
    assert proven is None or proven.rights == Rights({"cpu": 1000})  # the proof's own encoding has spare bits


@given(st.binary(max_size=400))
def test_anything_else_is_no_grant(junk: bytes) -> None:
    assert read_grant(junk) is None
    assert read_grant(ISSUER.public_key + junk) is None


def listing(text: str) -> bytes:
    """A well signed grant whose rights are one text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    token = BiscuitBuilder(f'check if kind($x), ["{escaped}"].contains($x)').build(
        PrivateKey(f"ed25519-private/{SEED.hex()}")
    )
    return ISSUER.public_key + bytes(token.to_bytes())


def signed(block: bytes) -> bytes:
    """A grant whose first part is these bytes, well signed: protobuf by hand, as the library makes no damaged ones."""

    def field(number: int, value: bytes) -> bytes:
        size = bytes((len(value) & 0x7F | 0x80, len(value) >> 7))
        return bytes((number << 3 | 2,)) + size + value

    following = Signer(b"\x09" * 32)
    key = b"\x08\x00" + field(2, following.public_key)
    signature = ISSUER.sign(block + bytes(4) + following.public_key)
    part = field(1, block) + field(2, key) + field(3, signature)
    return ISSUER.public_key + field(2, part) + field(4, field(1, b"\x09" * 32))


def content(grant: bytes) -> bytes:
    """The bytes of a grant's first part."""
    block = grant[grant.index(b"\x0a", 34) :]
    size = block[1] if block[1] < 0x80 else block[1] & 0x7F | block[2] << 7
    start = 2 if block[1] < 0x80 else 3
    return block[start : start + size]


MOMENTS = ("2030-13-45T99:99:99Z", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:60Z")


@pytest.mark.parametrize("statement", ["check if time($x), $x <= {};", "renew({}, 60);"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_text_that_is_printed_as_a_moment_that_is_none_makes_the_grant_void(statement: str, moment: str) -> None:
    """The library prints strings as they are, lines included."""
    text = f'a"].contains($x);\n{statement.format(moment)}\ncheck if kind($x), ["a'
    assert read_grant(listing(text)) is None


PIECES = (
    'a"].contains($x);',
    "\n",
    *(f"check if time($x), $x <= {moment};" for moment in MOMENTS),
    'check if kind($x), ["',
)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join))
def test_whatever_a_text_is_printed_as_can_be_read_or_is_no_grant(text: str) -> None:
    read_grant(listing(text))


def test_an_end_beyond_the_year_9999_makes_the_grant_void() -> None:
    block = content(issue(SEED, Rights({TIME: LATEST})))
    assert block.count(LAST_SECOND) == 1
    assert read_grant(signed(block)) is not None
    assert read_grant(signed(block.replace(LAST_SECOND, b"\xff" * 5 + b"\x7f"))) is None


LAST_SECOND = bytes(LATEST // 1000 >> 7 * number & 0x7F | 0x80 for number in range(5)) + bytes((LATEST // 1000 >> 35,))
"""As protobuf writes it."""
BLOCK = content(issue(SEED, Rights({"cpu": 4000, TIME: 10**12}, {"kind": ("request",), "peer": PEERS}, own=True)))


def test_a_part_is_signed_here_as_the_library_does_it() -> None:
    assert read_grant(signed(BLOCK)) is not None


@settings(max_examples=1_000)
@given(st.lists(st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_well_signed_part_with_damaged_contents_can_be_read_or_is_no_grant(changes: list[tuple[int, int]]) -> None:
    block = bytearray(BLOCK)
    for at, byte in changes:
        block[at] = byte
    read_grant(signed(bytes(block)))


@given(st.binary(max_size=200))
def test_a_well_signed_part_of_any_bytes_is_no_grant(block: bytes) -> None:
    proven = read_grant(signed(block))
    assert proven is None or proven.rights == Rights()


def test_a_grant_is_narrowed_only_so_often() -> None:
    grant = issue(SEED, Rights())
    for number in range(MAX_BLOCKS - 1):
        grant = narrow(grant, Rights({"cpu": 10_000 - number}))
    with pytest.raises(UserError, match="narrowed 7 times"):
        narrow(grant, Rights({"cpu": 1}))


def test_a_narrowing_that_leaves_nothing_is_refused() -> None:
    grant = issue(SEED, Rights(one_of={"kind": ("request",)}))
    with pytest.raises(UserError, match="no rights are left"):
        narrow(grant, Rights(one_of={"kind": ("commit",)}))


def test_the_text_is_checked_like_an_invitation() -> None:
    text = FORM.write(issue(SEED, Rights()))
    assert FORM.read(f" {text[:40]}\n{text[40:]} ") == FORM.read(text)
    for wrong, says in ((text[:-3], "checksum"), ("dms1:abc", "no grant"), ("dmsg2:abc", "newer")):
        with pytest.raises(UserError, match=says) as refused:
            FORM.read(wrong)
        assert refused.value.code == "bad_grant"


def test_who_passed_a_grant_on_stands_in_it_and_cannot_be_taken_out() -> None:
    passed_on = narrow(issue(SEED, Rights()), Rights({"cpu": 1000}), PEERS[0])
    again = narrow(narrow(passed_on, Rights()), Rights({"cpu": 500}), PEERS[1])

    for grant, delegators in ((passed_on, ("", PEERS[0])), (again, ("", PEERS[0], "", PEERS[1]))):
        proven = read_grant(grant)
        assert proven is not None
        assert proven.delegators == delegators
    assert allows(again, {"cpu": 500})
    assert not allows(again, {"cpu": 501})


@pytest.mark.parametrize(
    ("source", "is_first"), [('delegator("a");\n', True), ('delegator("a");\ndelegator("b");\n', False)]
)
def test_a_grant_names_no_delegator_of_its_first_part_and_no_two_of_one(source: str, is_first: bool) -> None:
    assert read_statements(source, is_first=is_first) is None


def test_what_anybody_may_see_of_a_grant_is_of_use_to_nobody_else() -> None:
    bearer = narrow(issue(SEED, Rights()), Rights({"cpu": 1000}), PEERS[0])
    shown, whole = read_grant(showable(bearer, PEERS[0])), read_grant(bearer)
    assert shown is not None
    assert whole is not None
    assert shown.rights.one_of["peer"] == (PEERS[0],)
    assert shown.ids[:2] == whole.ids
    bound = narrow(bearer, Rights(one_of={"peer": (PEERS[1],)}))
    assert showable(bound, PEERS[0]) == bound


RENEWAL = Renewal(2_000_000_000_000, 3_600_000)


def test_a_promise_to_renew_is_the_last_part_s_and_a_renewal_has_the_ids_of_what_it_stands_for() -> None:
    first = issue(SEED, Rights({TIME: 1_000_000}), RENEWAL)
    before = read_grant(first)
    assert before is not None
    assert (before.maker, before.renewal, before.origin) == (ISSUER.peer_id, RENEWAL, before.ids[-1])

    after = read_grant(issue(SEED, Rights({TIME: 2_000_000}), RENEWAL, before.origin))

    assert after is not None
    assert (after.origin, after.ids) == (before.origin, (before.origin, after.ids[-1]))
    assert after.ids[-1] != before.ids[-1]
    assert after.is_issued
    assert len(after.delegators) == len(after.ids)


def test_what_was_made_of_a_grant_is_promised_nothing() -> None:
    """Whoever holds it has made it so; its source's promise is of its source."""
    first = issue(SEED, Rights({TIME: 1_000_000}), RENEWAL)
    for delegator in ("", PEERS[0], ISSUER.peer_id):
        made = read_grant(narrow(first, Rights({"cpu": 1}), delegator))
        assert made is not None
        assert (made.maker, made.renewal, made.is_issued) == (delegator, None, False)


@pytest.mark.parametrize("source", ["renew(2030-01-01T00:00:00Z, 60);\n", 'renews("g-a");\n'])
def test_what_is_appended_can_neither_promise_nor_renew(source: str) -> None:
    """It needs nobody's key: who holds what was passed on could have it renewed for ever, and past its revocation."""
    assert read_statements(source, is_first=True) is not None
    key = PublicKey(f"ed25519/{ISSUER.public_key.hex()}")
    token = Biscuit.from_bytes(issue(SEED, Rights())[32:], key).append(BlockBuilder(source))
    assert read_grant(ISSUER.public_key + bytes(token.to_bytes())) is None


def test_a_grant_that_was_made_of_a_renewal_ends_with_the_first_of_its_line() -> None:
    first = read_grant(issue(SEED, Rights(), RENEWAL))
    assert first is not None
    made = read_grant(narrow(issue(SEED, Rights(), RENEWAL, first.origin), Rights({"cpu": 1}), PEERS[0]))
    assert made is not None
    assert made.ids[0] == first.origin
    assert made.origin == made.ids[-1]


@pytest.mark.parametrize(
    "source",
    [
        "renew(2030-01-01T00:00:00Z, 60);\nrenew(2031-01-01T00:00:00Z, 60);\n",
        "renew(2030-01-01T00:00:00Z, 0);\n",
        'renews("a");\nrenews("b");\n',
        "renew(1, 60);\n",
    ],
)
def test_a_promise_that_is_not_understood_makes_the_grant_void(source: str) -> None:
    assert read_statements(source, is_first=True) is None
