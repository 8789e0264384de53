"""What may come to be owed on tabs, as it counts for the rest of a node."""

from __future__ import annotations

from dms_actors.letters import TabQuestion
from dms_actors.shell import Turn
from dms_actors.tabs import Tabs
from dms_actors.world import Paying
from dms_proto.accounts.book import Accounts
from dms_proto.capability import Gpu, Price, Resources
from dms_proto.ids import PeerId, TabId, tab_id
from dms_proto.market.obligations import Obligations
from dms_proto.messages import AnyMessage, TabStated, TabWanted
from dms_proto.pool.services import InstallWished, OfferWished, Services, decide, evolve
from dms_proto.pool.state import Pool
from dms_proto.tabs.terms import Ceiling
from dms_proto.tabs.used import TabReady, TabTried
from dms_proto.units import CORE, CREDIT, GIB
from dms_proto.work import Task

SLICE = Gpu("MIG-0", "nvidia", "H100 MIG", 10 * GIB, part=143)
ME, PROVIDER = PeerId("me"), PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")


def test_an_instance_of_a_card_is_offered_at_its_part_of_the_price() -> None:
    sent: list[AnyMessage] = []
    paying = Paying(
        ME, lambda _peer, message, _cause: sent.append(message), lambda _l: None, lambda _r: None, Obligations()
    )
    tabs, services, pool = Tabs(paying), Services(), Pool(capacity=Resources(CORE, GIB, gpus=(SLICE,)))
    task = Task("sandbox", ("serve",), ports=(8080,), resources=Resources(gpus=(Gpu(model="H100"),)))
    for wish in (InstallWished("command", "infer", task), OfferWished("command/infer")):
        for event in decide(services, wish, 0).events:
            services = evolve(services, event)
    wanted = TabWanted(tab_id(bytes(16)), "command/infer", CREDIT)
    turn = Turn()
    tabs.ask(turn, TabQuestion(PROVIDER, wanted, Price(gpu_hour=1_000), CREDIT, 0, "", "test"), services, pool, 0)
    turn.perform(lambda _shell, effect, cause_id: tabs.perform(effect, cause_id))
    (stated,) = sent
    assert isinstance(stated, TabStated)
    assert stated.offer is not None
    assert stated.offer.tariff == Price(gpu_hour=143)


def test_tabs_that_are_wanted_at_once_share_what_may_be_owed() -> None:
    obligations, told = Obligations(), dict[TabId, str]()

    def note(ready: TabReady) -> None:
        told[ready.tab_id] = ready.why

    obligations.note(Accounts(ME, default_debt_limit=CREDIT))
    tabs = Tabs(Paying(ME, lambda _peer, _message, _cause: None, lambda _letter: None, note, obligations))

    def want(turn: Turn, number: int) -> TabId:
        tried = TabTried(tab_id(bytes([number] * 16)), ME, PROVIDER, f"command/{number}", Ceiling(CREDIT, CREDIT))
        tabs.hear(turn, tried, 0, "test")
        return tried.tab_id

    turn = Turn()
    first, second = want(turn, 1), want(turn, 2)
    assert list(tabs.used.state.wanted) == [first]
    assert told == {second: "0 credits is all that this node may still come to owe there"}
    turn.undo()
    assert want(Turn(), 3) in tabs.used.state.wanted
    tabs.stake()
    assert obligations.left(PROVIDER) == 0
