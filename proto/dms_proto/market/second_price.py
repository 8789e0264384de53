"""Second prices: sealed bids, the list that closes them, and what the winner is paid (Vickrey 1961, for buying instead of selling).

::

    BidRequest(second-price) ──▶
                             ◀── SealedBid: the capacity is locked, of the terms only a salted digest is told
    Closing: the digests     ──▶ to those on the list; whoever is not on it is released, and knows it
                             ◀── Bid with its salt: the opening
    Commit with an Award     ──▶ price, and the rival whose bid sets it, opened as far as its seal needs

**The rule.** Of the opened bids that fit, whose price is within the maximum and for which the job's constraints are true, the one with the lowest
price per unit of work wins; equal ones by `ordering.turn`. It is paid the highest price at which it would still have won against the best of the
others, its rival, and at most the maximum that the request named; without a rival, that maximum. So nobody's bid sets what it is paid itself, only
whether it wins: whoever bids what the work is worth to it can gain nothing by bidding otherwise. Who bids nothing is paid nothing: that is a gift.

**Why no weights.** A rank by the requester's own evidence (standing, distance, own machines) could not be computed again by the winner, and whoever
chooses the weights afterwards chooses the price. Evidence has its place before anything is open: nobody has to be put on the list. The job's
constraints may look at everything but prices; leaving a bid out by them only raises the price of the winner.

**What is proven to whom.** The buyer gains by a *lower* second price, so the threat for the winner is a rival that was invented after its own bid was
open; hiding a rival would only cost the requester. Therefore the winner is shown the list before it opens, and a rival counts only if what is told
of it gives a seal on that very list. A list made with what others opened before is no harm: nothing in it can depend on the winner's bid. More than
this one rival the winner needs not see and does not: no other loser's price is told to anybody but the requester.

**What is not proven.** Names are free, so a requester can seal several bids of its own in advance and open the one that suits it. By that it pays as
little as a first price, and never less: no award below the winner's own bid verifies. Whoever does not want to work under that asks not to be
part of second prices at all (`provider.second_price`).

A bid is binding from its seal on. One that is not opened in time is none, and its bidder is left out of the next round.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from dms_proto.capability import Price
from dms_proto.errors import UserError
from dms_proto.ids import BidId, Digest, PeerId, RequestId, digest_of, short
from dms_proto.market.expressions import Expression
from dms_proto.market.ordering import turn
from dms_proto.market.preferences import Preferences, compiled
from dms_proto.market.terms.price import WORK, price_per_work
from dms_proto.market.variables import BID_SCHEMA
from dms_proto.messages import Award, Bid, Rival, SealedBid
from dms_proto.units import MAX_QUANTITY, format_credits
from dms_proto.wire import encoding

BID_DOMAIN: Final = b"dms/bid/1\0"
SEAL_DOMAIN: Final = b"dms/seal/1\0"
PRICES: Final = frozenset({"price", "price_per_work"})
"""Variables that a constraint may not look at where the price is second."""


_TOLD: Final = ("request_id", "round", "number", "bid_id", "valid_until", "valid_ms")
"""What a sealed bid tells of the bid in it."""


class Offered(NamedTuple):
    """What decides between bids, and nothing else of them.

    Attributes:
        provider: who made it.
        bid_id: the bid.
        price: micro-credits for one allocation.
        cpu_score: of its offer.
    """

    provider: PeerId
    bid_id: BidId
    price: int
    cpu_score: int


class OpeningFlaw(StrEnum):
    """Why an opened bid does not count."""

    NOT_SEALED = "not_sealed"
    """There is no seal under its id."""
    FOREIGN = "foreign"
    """Another node has sealed it."""
    NOT_LISTED = "not_listed"
    """Its seal is on no list that was closed."""
    ALTERED = "altered"
    """It does not give its seal."""
    LATE = "late"
    """It came after the time for opening."""
    TOO_DEAR = "too_dear"
    """It asks for more than the request would pay."""
    UNOPENED = "unopened"
    """It did not come at all."""


class AwardFlaw(StrEnum):
    """Why an award does not prove its price."""

    NOT_CLOSED = "not_closed"
    """The winner was never shown a list with its seal."""
    NO_AWARD = "no_award"
    """A sealed bid was taken without saying at which price."""
    NOT_SEALED = "not_sealed"
    """An award for a bid that was never sealed."""
    RIVAL_UNLISTED = "rival_unlisted"
    """What is told of the rival gives no seal on the list."""
    RIVAL_IS_WINNER = "rival_is_winner"
    """The rival is the winner itself."""
    PRICE_DIFFERS = "price_differs"
    """The price is not what the rule gives."""


# ------------------------------------------------------------------------------------------------------------------ seals


def bid_digest(bid: Bid) -> Digest:
    """The name of all that a bid says, but for the salt of its seal."""
    plain = msgspec.structs.replace(bid, salt=b"")
    return _digest(BID_DOMAIN, plain)


def seal_of(bid: Bid, provider: PeerId) -> Digest:
    """What a provider tells of `bid` before it is opened."""
    return seal_from(rival_from(bid, provider))


def seal_from(rival: Rival) -> Digest:
    """The seal that these parts of a bid give."""
    return _digest(SEAL_DOMAIN, rival)


def rival_from(bid: Bid, provider: PeerId) -> Rival:
    """A bid as it is shown to the one that won against it."""
    return Rival(provider, bid.bid_id, bid.price, bid.offer.cpu_score, bid_digest(bid), bid.salt)


class Salts(msgspec.Struct, frozen=True):
    """Where a provider has its salts from. Nobody without the `secret` can guess one; it is shown nowhere."""

    secret: bytes = b""

    def of(self, requester: PeerId, bid_id: BidId) -> bytes:
        """The salt of one bid."""
        joined = b"\0".join((self.secret, requester.encode(), bid_id.encode()))
        return bytes.fromhex(digest_of(joined).removeprefix("sha256:"))

    def __repr__(self) -> str:
        return "Salts()"


def _digest(domain: bytes, value: msgspec.Struct) -> Digest:
    return digest_of(domain + encoding.pack(msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")))


# ------------------------------------------------------------------------------------------------------------------ prices


def offered(bid: Bid, provider: PeerId) -> Offered:
    """What decides about a bid."""
    return Offered(provider, bid.bid_id, bid.price, bid.offer.cpu_score)


def critical_price(request_id: RequestId, winner: Offered, rival: Offered | None, most: int) -> int:
    """The highest price, up to `most`, at which `winner` would have won against `rival`; nothing for who asks nothing.

    It is below the winner's own price exactly when the rival should have won.
    """
    if not winner.price or rival is None:
        return most if winner.price else 0
    wins_ties = turn(request_id, winner.provider, winner.bid_id) < turn(request_id, rival.provider, rival.bid_id)
    below = price_per_work(rival.price, rival.cpu_score) + wins_ties  # its price per work has to be less than this
    return min(most, (below * (winner.cpu_score or 1) - 1) // WORK)


def award_between(bid: Bid, winner: PeerId, rival: tuple[PeerId, Bid] | None, most: int) -> Award:
    """What the winner is paid against its rival, and what it is shown of that."""
    if rival is None:
        return Award(critical_price(bid.request_id, offered(bid, winner), None, most))
    provider, other = rival
    price = critical_price(bid.request_id, offered(bid, winner), offered(other, provider), most)
    return Award(price, rival_from(other, provider))


def by_price_alone(preferences: Preferences) -> Preferences:
    """How bids are compared where the price is second: the constraints stay, of the terms only the price per work is left."""
    return Preferences(constraints=preferences.constraints, weights={"price": 100.0}, spread_percent=0)


def paid_tariff(tariff: Price, asked: int, paid: int) -> Price:
    """The tariff that applies when a bid of `asked` is paid `paid`, which is not less.

    Each part is raised in proportion and rounded down, and is no more than a tariff can say.
    A run to the wall limit then costs at most `paid`, and a shorter one never less than the bid asked for it.
    """
    if paid == asked or not asked:
        return tariff
    return Price(*(min(part * paid // asked, MAX_QUANTITY) for part in msgspec.structs.astuple(tariff)))


def check_usable(preferences: Preferences, count: int, *, is_checked: bool = False) -> None:
    """Refuses what does not go with a second price.

    Args:
        preferences: of the job.
        count: allocations it wants.
        is_checked: whether its results are checked, which takes several allocations.

    Raises:
        UserError: `bad_argument`: several allocations, or a constraint that looks at prices.
    """
    if is_checked:
        hint = "leave the pricing at first-price, or the results unchecked"
        raise UserError(
            "bad_argument", "a second price is for one allocation, and checking results takes more", hint=hint
        )
    if count != 1:
        hint = "submit the allocations as jobs of their own, or leave the pricing at first-price"
        raise UserError("bad_argument", f"a second price is for one allocation, and count is {count}", hint=hint)
    for source in preferences.constraints:
        expression = compiled(source, BID_SCHEMA)
        if isinstance(expression, Expression) and PRICES & expression.uses.keys():
            hint = "say with max_price what it may cost at most"
            raise UserError("bad_argument", f"{source!r} looks at the price, which is not known before", hint=hint)


def words_of(award: Award) -> str:
    """How a price came about, for a person."""
    paid = format_credits(award.price)
    if award.rival is None:
        return f"paid {paid}: all that was offered, since no other bid could set the price"
    rival = award.rival
    return (
        f"paid {paid}: at more it would have lost to {short(rival.provider)}, which asked {format_credits(rival.price)} "
        f"at a score of {rival.cpu_score} per core"
    )


# ------------------------------------------------------------------------------------------------------------------ checks


def check_opening(sealed: SealedBid, bid: Bid, provider: PeerId) -> OpeningFlaw | None:
    """What is wrong with a bid that was sealed before, if anything."""
    if seal_of(bid, provider) != sealed.seal or any(getattr(bid, told) != getattr(sealed, told) for told in _TOLD):
        return OpeningFlaw.ALTERED
    return OpeningFlaw.TOO_DEAR if bid.price > sealed.max_price else None


def check_award(
    bid: Bid, provider: PeerId, most: int, seals: Iterable[Digest], award: Award | None
) -> AwardFlaw | None:
    """What is wrong with the award of a bid, if anything. The winner checks it before it agrees, and anybody afterwards.

    Args:
        bid: the winner's, as it was opened.
        provider: the winner.
        most: micro-credits that the request would pay.
        seals: the list that the winner was shown before it opened; empty if it was shown none.
        award: as in the commit.
    """
    if not bid.salt:
        return AwardFlaw.NOT_SEALED if award is not None else None
    if award is None:
        return AwardFlaw.NO_AWARD
    listed = frozenset(seals)
    if seal_of(bid, provider) not in listed:
        return AwardFlaw.NOT_CLOSED
    rival = award.rival
    if rival is not None and seal_from(rival) not in listed:
        return AwardFlaw.RIVAL_UNLISTED
    if rival is not None and rival.provider == provider:
        return AwardFlaw.RIVAL_IS_WINNER
    against = Offered(rival.provider, rival.bid_id, rival.price, rival.cpu_score) if rival is not None else None
    price = critical_price(bid.request_id, offered(bid, provider), against, most)
    return None if price == award.price and price >= bid.price else AwardFlaw.PRICE_DIFFERS
