"""Expressions: what is allowed compiles once, what is not is refused by name, and evaluating never raises or runs away."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms_proto.errors import UserError
from dms_proto.market.expression_rules import MAX_LENGTH, MAX_LOOPS
from dms_proto.market.expressions import TRUTH, Expression, Unknown, compile_expression
from dms_proto.market.preferences import SAMPLE_CANDIDATE, SAMPLE_REQUEST
from dms_proto.market.variables import BID_SCHEMA, BID_VARIABLES, reader

CONTEXT = reader({name: v for name, v in BID_VARIABLES.items() if name != "request"}, BID_SCHEMA)(SAMPLE_CANDIDATE) | (
    reader({"request": BID_VARIABLES["request"]}, BID_SCHEMA)(SAMPLE_REQUEST)
)


def compiled(source: str) -> Expression:
    return compile_expression(source, BID_SCHEMA)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("price < 1.0", True),
        ("price < 0.25", False),
        ("price * 2.0 == 1.0", True),
        ("price_per_work > price", True),
        ("offer.cpu >= request.cpu", True),
        ('offer.labels.zone == "a"', True),
        ('"numpy==2.0" in offer.libraries', True),
        ('offer.gpus.exists(g, g.model.startsWith("A1") && g.memory_gib >= 40.0)', True),
        ("offer.gpus.all(g, g.share == 1.0)", True),
        ("size(offer.gpus.filter(g, g.memory_gib > 80.0)) == 0", True),
        ("has(link.rtt_ms) && link.rtt_ms == 5.0", True),
        ("has(offer.labels.rack)", False),
        ("!provider.own && !link.relayed", True),
        ('provider.id.contains("sam")', True),
        ('offer.architecture.matches("^x86.*$")', True),
        ("request.count == 1 && offer.slots >= request.count", True),
        ("request.wall_s == 3600.0 && request.max_price == 1.0", True),
        ("provider.failures > 0 || link.rtt_ms < 20.0", True),
        ('request.job_class == "batch" ? price < 1.0 : false', True),
        (r"r'\' == '\\' // a comment with 'quotes' and [1].map(x, x)", True),
        ("'it''s' == ''", Unknown),
        ("offer['cpu'] > 1.0", True),
    ],
)
def test_what_people_write_gives_what_they_mean(source: str, value: object) -> None:
    if value is Unknown:
        with pytest.raises(UserError):
            compiled(source)
    else:
        assert compiled(source).is_true(CONTEXT) is value


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("price <", "column 8"),
        ("price < 1.0 &&\n || true", "line 2"),
        ("prise < 1.0", "did you mean price"),
        ("offer.memory > 4.0", "did you mean memory_gib"),
        ("offer.gpu_cout > 0", "did you mean gpu_count"),
        ("link.latency < 3.0", "there are relayed, rtt_ms"),
        ("now() > 3", "no function now"),
        ("exec('rm')", "no function exec"),
        ("offer.cpu.sqrt() > 1.0", "no function sqrt"),
        ("[1, 2].map(x, x * 2) == []", "map is not allowed"),
        ("offer.gpus.exists(g, offer.gpus.exists(h, h == g))", "inside a loop"),
        ("offer.gpus.exists(g, g.model.matches('A'))", "inside a loop"),
        ("offer.gpus.exists(price, price.share > 0.5)", "is a variable already"),
        ("provider.id.matches('a{1000}')", "neither {n}"),
        (r"provider.id.matches('\\w+')", "neither {n}"),
        (r"provider.id.matches('a\x7b9}')", "neither {n}"),
        ("provider.id.matches(provider.id)", "one literal pattern"),
        ("provider.id.matches('a' + 'b')", "one literal pattern"),
        (f"provider.id.matches('{'a' * 70}')", "at most 64"),
        (" || ".join(["provider.id.matches('a')"] * 3), "at most 2"),
        ("(" * 25 + "1" + ")" * 25, "brackets"),
        ("[" * 30 + "]" * 30, "brackets"),
        ("(" * 500, "brackets"),
        ("1 + " * MAX_LENGTH + "1", "characters"),
        (" && ".join(["[1].all(x, true)"] * (MAX_LOOPS + 1)), "loops"),
        ("'unterminated", "column 1"),
        ("price < 1.0; price", "column"),
        ("import os", "column"),
    ],
)
def test_what_cannot_be_used_is_refused_and_the_message_shows_where_or_why(source: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        compiled(source)
    assert caught.value.code == "bad_expression"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("offer.labels.rack == '7'", "rack is not there"),
        ("offer.gpus[7].model == 'A100'", "out of bounds"),
        ("1 / 0 == 1", "division by zero"),
        ("5 % 0 == 1", "zero"),
        ("9223372036854775807 + 1 > 0", "verflow"),
        ("price + 1 > 1.0", "same type"),
        ("price", "gives a number, not true or false"),
        ("offer.gpus", "gives a list"),
        ("offer", "gives a map"),
        ("'yes'", "gives a text"),
        ("null", "gives null"),
        ("price.foo == 1", "overload"),
        ("int('twelve') == 12", "int"),
    ],
)
def test_what_has_no_value_is_unknown_with_the_reason(source: str, says: str) -> None:
    met = compiled(source).is_true(CONTEXT)
    assert isinstance(met, Unknown)
    assert says in met.reason
    assert "\n" not in met.reason


def test_an_unknown_part_does_not_matter_where_the_rest_decides() -> None:
    missing = "offer.labels.rack == '7'"
    assert compiled(f"{missing} || true").is_true(CONTEXT) is True
    assert compiled(f"{missing} && false").is_true(CONTEXT) is False
    assert isinstance(compiled(f"{missing} && true").is_true(CONTEXT), Unknown)
    assert isinstance(compiled(f"!({missing})").is_true(CONTEXT), Unknown), "not knowing is not knowing the opposite"


@pytest.mark.parametrize("source", ["1.0 / 0.0", "-1.0 / 0.0", "0.0 / 0.0", "double('nan')", "1e308 * 10.0"])
def test_a_rank_without_a_finite_value_is_unknown(source: str) -> None:
    assert isinstance(compiled(source).number(CONTEXT), Unknown)


def test_truth_counts_as_one_and_falsehood_as_nothing() -> None:
    assert compiled("price < 1.0").number(CONTEXT) == 1.0
    assert compiled("price > 1.0").number(CONTEXT) == 0.0


def test_only_the_fields_that_are_used_are_asked_for() -> None:
    assert compiled("offer.cpu > 1.0 && price < 2.0").uses == {"offer": frozenset({"cpu"}), "price": frozenset()}
    assert compiled("offer['c' + 'pu'] > 1.0").uses == {"offer": BID_SCHEMA["offer"]}
    assert compiled("[1, 2].exists(x, x > 1)").uses == {}


def test_the_same_source_is_compiled_once() -> None:
    assert compiled("price < 0.125") is compiled("price < 0.125")


def test_an_expression_may_be_evaluated_on_another_thread() -> None:
    found: list[object] = []
    expression = compiled("price < 1.0")
    thread = threading.Thread(target=lambda: found.append(expression.is_true(CONTEXT)))
    thread.start()
    thread.join()
    assert found == [True]


def judged(source: str) -> bool:
    """Compiles and evaluates, and says whether it could be compiled; anything but a refusal, a value or an unknown raises."""
    refusal: UserError | None = None
    try:
        expression = compiled(source)
    except UserError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == "bad_expression"
        assert len(refusal.message) < 3 * MAX_LENGTH
        return False
    met, number = expression.is_true(CONTEXT), expression.number(CONTEXT)
    assert isinstance(met, bool | Unknown)
    assert isinstance(number, float | Unknown)
    expression.misfit(CONTEXT, TRUTH)
    return True


WORDS = r"""
price offer.cpu offer.gpus offer.labels.zone link.rtt_ms request.count provider.own true false null 0 1 -1 2.5 1u
9223372036854775807 -9223372036854775808 1e308
'' 'a' "\u0000" r'\' b'x' [1,2,3] {'a':1} {} [] + - * / % == != < <=
> >= && || ! ? : in ( ) [ ] { } . , .exists(x, .all(x,
.filter(x, .map(x, .matches('(a*)*b') size( has( int(
double( string( duration('1h') timestamp('2020-01-01T00:00:00Z') x @ # ` \ // ; é
中
"""
PIECES = WORDS.split()


def test_ten_thousand_hostile_expressions_neither_raise_nor_run_away() -> None:
    """Random pieces glued together; deterministic, so that a failure can be found again."""
    source = random.Random(20250101)
    compiled_ = sum(
        judged(source.choice(["", " "]).join(source.choices(PIECES, k=source.randint(1, 25)))) for _ in range(10_000)
    )
    assert compiled_ > 100, "most are refused, but enough are not"


@settings(max_examples=500)
@given(st.text(max_size=200))
def test_any_text_is_refused_or_judged(text: str) -> None:
    judged(text)


OPERAND = st.sampled_from(
    ["price", "offer.cpu", "offer.memory_gib", "offer.gpus[0].memory_gib", "1.5", "2", "request.count", "'a'", "true"]
)
GRAMMAR = st.recursive(
    OPERAND,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%", "<", "==", "&&", "||", "in"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        inner.map(lambda value: f"!({value})"),
        inner.map(lambda value: f"[{value}]"),
        inner.map(lambda value: f"[{value}, 1].exists(x, x == {value})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})"),
    ),
    max_leaves=12,
)


@settings(max_examples=500)
@given(GRAMMAR)
def test_any_well_formed_expression_is_refused_or_judged(source: str) -> None:
    judged(source)


@pytest.mark.parametrize(
    "source",
    [
        "[" + ",".join("1" for _ in range(300)) + "].all(x, x > 0)",
        "offer.libraries.all(l, " + " && ".join(f"l != '{i}'" for i in range(60)) + ")",
        "'" + "a" * 900 + "' == ''",
        "!" * 900 + "true",
        "-" * 900 + "1",
        "1" + "+1" * 450,
        "true" + "&&true" * 160,
        "a" * 900,
        "true" + "?true:true" * 90,
        "offer" + ".labels" * 100,
        "'%s'.matches('(a*)*(a*)*(a*)*b')" % ("a" * 800),
    ],
)
def test_the_largest_expressions_of_each_kind_are_refused_or_judged(source: str) -> None:
    judged(source)
