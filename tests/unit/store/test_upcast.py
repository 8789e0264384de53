import msgspec
import pytest

from dms.store.upcast import Upcaster

STEPS = {
    ("price_set", 1): lambda body: msgspec.msgpack.encode({"price_milli": msgspec.msgpack.decode(body)["price"]}),
    ("price_set", 2): lambda body: msgspec.msgpack.encode(
        {"price_micro": msgspec.msgpack.decode(body)["price_milli"] * 1000}
    ),
}


def test_the_newest_form_is_one_past_the_last_step():
    upcaster = Upcaster(STEPS)
    assert upcaster.forms == {"price_set": 3}


def test_steps_are_applied_one_after_the_other_from_the_form_of_the_row():
    upcaster = Upcaster(STEPS)
    one, two = msgspec.msgpack.encode({"price": 7}), msgspec.msgpack.encode({"price_milli": 7})
    three = msgspec.msgpack.encode({"price_micro": 7000})
    assert upcaster.body("price_set", 1, one) == three
    assert upcaster.body("price_set", 2, two) == three
    assert upcaster.body("price_set", 3, three) == three


def test_a_form_newer_than_known_is_left_alone():
    assert Upcaster(STEPS).body("price_set", 9, b"from the future") == b"from the future"


def test_a_gap_in_the_steps_is_a_defect_found_at_once():
    with pytest.raises(ValueError, match="from form 2 but none to it"):
        Upcaster({("price_set", 2): lambda body: body})
