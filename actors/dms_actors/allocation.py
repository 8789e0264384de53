"""The Allocation actor: runs one piece of work for somebody, from the commit to the receipt. Thinks with the allocation machine."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms_actors.behaviour import Address
from dms_actors.draft import Journal
from dms_actors.letters import Admit, AllocationClosed, Blamed, ShowState, TellAgain, Told
from dms_actors.machine_actor import MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.proofs import record_heard, record_sent
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.world import Post, Workbench
from dms_proto.accounts.book import Book
from dms_proto.accounts.machine import EntryWritten
from dms_proto.allocation import machine as life
from dms_proto.allocation.effects import Close, Execute, FetchInputs, FreeCapacity, StopRun, StoreOutputs
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.freezing import FreezeRun, ThawRun
from dms_proto.allocation.resizing import SetSize, SettleSize
from dms_proto.allocation.state import Allocation, LifePhase
from dms_proto.allocation.stimuli import ReceiptHeard
from dms_proto.allocation.tunnels import CommandAdmitted
from dms_proto.ids import AllocationId, PeerId
from dms_proto.machine import Blame, Effect, Send
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_state import AllocationOver, SizeSettled
from dms_proto.messages import AllocationStatus, AnyMessage, Resized
from dms_proto.wire import Offence
from dms_proto.work import Task, within

LIFE: Final[Machine[Allocation]] = Machine(life.decide, evolve, life.next_deadline, life.resume)
_WITH_A_RUN: Final = (LifePhase.STARTING, LifePhase.RUNNING, LifePhase.STOPPING)


class AllocationActor(MachineActor):
    """Runs one allocation."""

    def __init__(
        self,
        allocation_id: AllocationId,
        *,
        journal: Journal,
        post: Post,
        workbench: Workbench,
        node: Address,
        mishaps: Mishaps,
    ) -> None:
        self.shell = Shell(LIFE, allocation_id, Allocation())
        super().__init__(journal, (self.shell,), mishaps)
        self._id = allocation_id
        self._post = post
        self._workbench = workbench
        self._node = node
        self._has_looked = False
        self._is_ending_kept = False
        self._kept_changes: set[int] = set()

    def begin(self, turn: Turn, now: int) -> None:
        """A run that may have outlived the node is looked for; everything else is resumed by the machine."""
        state = self.shell.state
        looks = state.phase in _WITH_A_RUN and not self._has_looked
        self._has_looked = True
        if looks and state.reservation is not None and state.task is not None:
            reservation = state.reservation
            task = within(state.task, reservation.resources)
            self._workbench.adopt(self._id, reservation.request_id, reservation.requester, task, state.handle)
        if state.outputs:
            self._workbench.offer_outputs(self._id, self._reservation().requester, state.outputs)
        super().begin(turn, now)

    def handle(self, turn: Turn, message: object, now: int) -> object:
        """A stimulus, or the question for the state."""
        match message:
            case Told(stimulus=stimulus, cause_id=cause_id, heard=heard):
                closed = turn.apply(self.shell, stimulus, now, cause_id).events
                if closed and isinstance(stimulus, ReceiptHeard):
                    record_heard(turn, stimulus.receipt.request_id, heard, cause_id)
                return None
            case ShowState():
                return self.shell.state
            case Admit(by=by, words=words):
                turn.record(self._id, CommandAdmitted(by, words, now), "tunnel")
                return None
            case TellAgain():
                again = (effect for effect in LIFE.resume(self.shell.state) if isinstance(effect, FreeCapacity | Close))
                turn.want(self.shell, tuple(again), "node restart")
                return None
            case _:
                raise TypeError(f"an allocation is told stimuli, not {message!r}")

    def blame(self, peer: PeerId, now: int) -> None:
        """See `MachineActor.blame`."""
        self._node.tell(Blamed(peer, Offence.UNHANDLED))

    def turn_written(self, turn: Turn) -> None:
        """Of several statuses only the last is sent: it says all that the others do. A short job starts and ends in one turn."""
        turn.keep_last(lambda effect: isinstance(effect, Send) and isinstance(effect.message, AllocationStatus))
        super().turn_written(turn)

    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        """Sends, fetches, runs, stops, freezes, thaws, resizes, stores, books, frees, closes."""
        match effect:
            case Send(peer=peer, message=message):
                self._keep_ending(message, self._post.send(peer, message, cause_id), cause_id)
            case Book(entry=entry):
                self._node.tell(Told(EntryWritten(entry), cause_id))
            case SettleSize(number=number, resources=resources, price=price):
                self._node.tell(Told(SizeSettled(self._id, number, resources, price), cause_id))
            case FreeCapacity(allocation_id=allocation_id):
                self._node.tell(Told(AllocationOver(allocation_id), cause_id))
            case Blame(peer=peer, offence=offence):
                self._node.tell(Blamed(peer, offence))
            case Close():
                self._workbench.close(self._id)
                self._node.tell(AllocationClosed(self._id))
            case _:
                self._work(effect)

    def _work(self, effect: Effect) -> None:
        """What is done with the run, and around it."""
        match effect:
            case FetchInputs(requester=requester, task=task):
                self._workbench.fetch_inputs(self._id, self._reservation().request_id, requester, task)
            case Execute(task=task):
                reservation = self._reservation()
                parties = (reservation.request_id, reservation.requester)
                task = within(task, reservation.resources)
                self._workbench.execute(self._id, *parties, task, gives_way=reservation.lent)
            case StopRun(grace_ms=grace_ms):
                self._workbench.stop(self._id, grace_ms)
            case FreezeRun(until=until):
                self._workbench.freeze(self._id, until)
            case ThawRun():
                self._workbench.thaw(self._id)
            case SetSize(number=number, resources=resources):
                task = within(msgspec.structs.replace(self._task(), resources=resources), resources)
                self._workbench.resize(self._id, number, task)
            case StoreOutputs(task=task):
                self._workbench.store_outputs(self._id, self._reservation().requester, task)
            case _:
                raise TypeError(f"no hands for {effect!r}")

    def _keep_ending(self, message: AnyMessage, frame: bytes, cause_id: str) -> None:
        """Of what was sent, the first status with the ending is kept as proof, and that a size has changed; the repeats say the same."""
        if isinstance(message, Resized) and not message.clauses and message.number not in self._kept_changes:
            self._kept_changes.add(message.number)
            record_sent(self.journal, message.request_id, frame, cause_id)
        if isinstance(message, AllocationStatus) and message.ending is not None and not self._is_ending_kept:
            self._is_ending_kept = True
            record_sent(self.journal, message.request_id, frame, cause_id)

    def _task(self) -> Task:
        task = self.shell.state.task
        assert task is not None, "what runs was invoked"
        return task

    def _reservation(self) -> Reservation:
        reservation = self.shell.state.reservation
        assert reservation is not None, "an allocation that acts has been opened"
        return reservation
