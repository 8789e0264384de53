from dms.store.durability import Durability, DurabilityTable


def test_an_unknown_kind_is_a_promise():
    assert DurabilityTable().of(["whatever"]) is Durability.FULL


def test_one_promise_makes_the_whole_transaction_full():
    table = DurabilityTable(frozenset({"usage_sampled", "peer_seen"}))
    assert table.of(["usage_sampled", "peer_seen"]) is Durability.NORMAL
    assert table.of(["usage_sampled", "bid_made"]) is Durability.FULL


def test_a_transaction_of_nothing_is_full():
    assert DurabilityTable(frozenset({"x"})).of([]) is Durability.FULL
