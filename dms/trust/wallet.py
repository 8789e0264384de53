"""The grants this node holds, in HOME/grants (0600): kept as they were given, shown only in a form that is bound to this node.

A grant for whoever holds it is a secret until it is bound. Nobody who is shown the bound form can use it: its sender must be this node.

A line of the file is a grant as text, and `used` behind it once it was shown. A line that cannot be read is set aside: it stays in the file as it is,
after the others, and counts for nothing. A newer dms may be able to read it, or its owner can put it right.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from dms.config.paths import Home, open_private, require_private
from dms.trust.grant import FORM, narrow, read_grant
from dms_proto.errors import UserError
from dms_proto.grants.revocations import is_genuine, signed_by
from dms_proto.grants.rights import MARKET, Rights
from dms_proto.grants.trust import Proven
from dms_proto.ids import GrantId, PeerId
from dms_proto.messages import Revocation
from dms_proto.messages.kinds import MAX_ANCHORS
from dms_proto.wire import CLOCK_SKEW_MS

MAX_KEPT: Final = 64
USED: Final = "used"
ENCODING: Final = "utf-8"
KNOWN: Final = 4_096
"""Peers of which it is remembered whose grants they want; bounds what strangers can make us remember."""


log = logging.getLogger(__name__)


class SetAside(NamedTuple):
    """A line of the file that cannot be read as a grant of this node.

    Attributes:
        line: as it stands there.
        number: which line of the file it was at the start, from 1.
        why: what is wrong with it.
    """

    line: str
    number: int
    why: str


class Held(NamedTuple):
    """A grant this node holds.

    Attributes:
        grant: as it was given, in its sent form.
        bound: the same, for this node alone.
        proven: what it says.
    """

    grant: bytes
    bound: bytes
    proven: Proven

    @property
    def grant_id(self) -> GrantId:
        """The id by which its maker knows it: a renewal keeps that of what it stands for."""
        return self.proven.origin


class Wallet:
    """One per node. Changed on the loop, asked from any thread: what is asked is replaced whole."""

    def __init__(self, home: Home, me: PeerId) -> None:
        """Reads what the home holds.

        Raises:
            UserError: `bad_config`: others can read the file.
        """
        self._file = home.grants
        self._me = me
        self._wanted: dict[PeerId, tuple[PeerId, ...]] = {}
        self.void: frozenset[GrantId] = frozenset()
        """Grants held that are revoked, as far as peers have told since the start."""
        self._used: set[GrantId] = set()
        """Grants held that were shown; written down now and then."""
        self.held: Mapping[GrantId, Held] = {}
        self.set_aside: tuple[SetAside, ...] = ()
        if self._file.exists():
            require_private(self._file)
            for number, line in enumerate(self._file.read_text(ENCODING, "surrogateescape").split("\n"), 1):
                if line:
                    self._take(line, number)
        self._saved = frozenset(self._used)

    def _take(self, line: str, number: int) -> None:
        text, _, mark = line.partition(" ")
        try:
            held = self._held(FORM.read(text))
        except UserError as error:
            log.warning("line %d of %s is set aside: %s", number, self._file, error.message)
            self.set_aside = (*self.set_aside, SetAside(line, number, error.message))
            return
        self.held = {**self.held, held.grant_id: held}
        if mark == USED:
            self._used.add(held.grant_id)

    def keep(self, grant: bytes) -> Held:
        """Keeps a grant, durably, and gives what is kept then: of one that is kept already, the text that ends last.

        Raises:
            UserError: `bad_grant`: it is none; `bad_argument`: it is for other nodes, stands for one of somebody else, or too many are kept.
        """
        held = self._held(grant)
        known = self.held.get(held.grant_id)
        if known is None and len(self.held) >= MAX_KEPT:
            raise UserError("bad_argument", f"{MAX_KEPT} grants are kept already", hint="dms grant forget ID")
        if known is not None and _makers(known) != _makers(held):
            raise UserError(
                "bad_argument",
                f"the grant says to stand for {held.grant_id}, which somebody else has made",
                hint="dms grant forget ID, if you trust who gave you this one more",
            )
        if known is not None and _end(held) <= _end(known):
            return known
        self._write({**self.held, held.grant_id: held})
        return held

    def renew(self, grant: bytes, sender: PeerId) -> Held | None:
        """Keeps a grant, durably, in place of that of which it is a renewal. None: it is none, or not by who issued the one it stands for.

        Args:
            grant: as it was given.
            sender: who has given it.

        Raises:
            UserError: `bad_grant`: it is no grant; `bad_argument`: it is for other nodes.
        """
        new = self._held(grant)
        before = {key for key, held in self.held.items() if _is_renewed_by(held, new, sender)}
        if not before:
            return None
        self._used -= before  # it is in use once it is shown
        self._write({key: held for key, held in self.held.items() if key not in before} | {new.grant_id: new})
        return new

    def save_used(self) -> None:
        """Writes down which grants are in use, if that has changed.

        Raises:
            OSError: it could not be written.
        """
        if self._used - self._saved:
            self._write(self.held)

    def due(self, now: int) -> tuple[Held, ...]:
        """Grants in use that others have made, and that are to be renewed at `now` (Unix ms)."""
        return tuple(held for held in self.held.values() if held.grant_id in self._used and self._is_due(held, now))

    def _is_due(self, held: Held, now: int) -> bool:
        proven, end = held.proven, held.proven.rights.until
        if proven.renewal is None or proven.issuer == self._me or held.grant_id in self.void:
            return False
        return proven.renewal.is_due(end, now) and now <= end + CLOCK_SKEW_MS

    def forget(self, grant_id: GrantId) -> None:
        """Keeps a grant no longer."""
        self._write({key: held for key, held in self.held.items() if key != grant_id})

    def note(self, peer: PeerId, anchors: Sequence[PeerId]) -> None:
        """Remembers one of whose grants a peer wants to see."""
        self._wanted.pop(peer, None)
        if anchors:
            if len(self._wanted) >= KNOWN:
                del self._wanted[next(iter(self._wanted))]
            self._wanted[peer] = tuple(anchors[:MAX_ANCHORS])

    def hear(self, revocations: Sequence[Revocation]) -> None:
        """Notes which grants held are void: their issuers, or who passed them on, say so. What others say of them counts for nothing."""
        told = {(revocation.grant_id, name): revocation for revocation in revocations for name in signed_by(revocation)}
        for held in self.held.values():
            if held.grant_id not in self.void and any(
                is_genuine(told[key]) for key in _revocable_by(held) & told.keys()
            ):
                self.void |= {held.grant_id}

    def shown_to(self, peer: PeerId, kinds: Sequence[str] = MARKET) -> bytes:
        """The grant to show to a peer, bound to this node. Empty: none, or none is wanted.

        Of those it accepts: one that is not void, as far as is known; then one for all `kinds` of message rather than for some; of these the one
        that ends last. Outside the market every node believes what it has signed itself, and says so to nobody.
        """
        wanted = self._wanted.get(peer, ()) if kinds == MARKET else (*self._wanted.get(peer, ()), peer)
        return self._best_of(wanted, kinds)

    def shown_to_most(self) -> bytes:
        """The grant to show where it is not known who will see it: of those who sign what this node holds, of the one whom most peers want."""
        issuers = {held.proven.issuer for held in self.held.values()}
        wanted = Counter(anchor for anchors in self._wanted.values() for anchor in anchors if anchor in issuers)
        return self._best_of(tuple(anchor for anchor, _ in wanted.most_common(1)), MARKET)

    def _best_of(self, issuers: Sequence[PeerId], kinds: Sequence[str]) -> bytes:
        fitting = [held for held in self.held.values() if held.proven.issuer in issuers]

        def rank(held: Held) -> tuple[bool, int, int]:
            rights, counts = held.proven.rights, held.grant_id not in self.void
            return counts, -sum(any(rights.unmet({"kind": kind})) for kind in kinds), _end(held)

        if not fitting:
            return b""
        best = max(fitting, key=rank)
        self._used.add(best.grant_id)
        return best.bound

    def _held(self, grant: bytes) -> Held:
        proven = read_grant(grant)
        if proven is None:
            raise FORM.refused("does not verify, or says what this version does not understand")
        if tuple(proven.rights.unmet({"peer": self._me})):
            raise UserError("bad_argument", "the grant is for another node", hint="dms grant inspect says for which")
        mine = (self._me,)
        is_bound = proven.rights.one_of.get("peer") == mine
        return Held(grant, grant if is_bound else narrow(grant, Rights(one_of={"peer": mine})), proven)

    def _write(self, held: Mapping[GrantId, Held]) -> None:
        used = frozenset(self._used.intersection(held))
        lines = [FORM.write(one.grant) + (f" {USED}" if id_ in used else "") for id_, one in held.items()]
        lines += [aside.line for aside in self.set_aside]
        partial = self._file.with_name(f".{self._file.name}")
        partial.unlink(missing_ok=True)
        with open(partial, "x", encoding=ENCODING, errors="surrogateescape", opener=open_private) as stream:
            stream.write("".join(f"{line}\n" for line in lines))
        partial.replace(self._file)
        self.held, self._saved = held, used
        self._used.intersection_update(held)


def _is_renewed_by(held: Held, new: Held, sender: PeerId) -> bool:
    """Whether `new` stands for a grant that is held, goes on further, and both are as the issuer signed them, which has sent it."""
    before, after = held.proven, new.proven
    same = before.issuer == after.issuer == sender and before.origin == after.origin
    return same and before.is_issued and after.is_issued and 0 < before.rights.until < _end(new)


def _makers(held: Held) -> tuple[PeerId, PeerId]:
    return held.proven.issuer, held.proven.maker


def _end(held: Held) -> int:
    """When it ends, Unix ms; of one without end, later than any."""
    return held.proven.rights.until or _NEVER


def _revocable_by(held: Held) -> set[tuple[GrantId, PeerId]]:
    """By whose word about which id a grant is void."""
    proven = held.proven
    return {
        (id_, by)
        for id_, delegator in zip_longest(proven.ids, proven.delegators)
        for by in (proven.issuer, delegator)
        if by
    }


_NEVER: Final = 2**53
