"""A decision that was made once holds for all inputs that its table can't tell apart, and for no others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.declarations import DecimalInput, Rule, TextInput
from streams.stages.decision_table import constants_of
from streams.stages.map import Aggregate
from streams.stages.rules import CompiledRule, compile_rule

INPUTS: dict[str, Any] = {"amount": DecimalInput(decimal="amount"), "grade": TextInput(text="grade")}  # fmt: skip
NUMBERS = st.decimals(-3, 3, places=1).map(str) | st.sampled_from(["0", "1", "100000", "-7", "2.50"])  # fmt: skip
TEXTS = st.sampled_from(["A", "a", "B", "A ", "1", "中文"])


def _number_cells() -> st.SearchStrategy[str]:
    compared = st.builds("{} {}".format, st.sampled_from([">", ">=", "<", "<=", "==", "!="]), NUMBERS)  # fmt: skip
    between = st.builds(
        lambda low, high, opens, closes: f"{opens}{low}..{high}{closes}",
        NUMBERS, NUMBERS, st.sampled_from("[("), st.sampled_from("])"),
    )  # fmt: skip
    each = compared | between | NUMBERS
    return st.just("") | each | st.lists(each, min_size=2, max_size=3).map(", ".join)


def _text_cells() -> st.SearchStrategy[str]:
    each = st.builds("'{}'".format, TEXTS) | st.builds('"{}"'.format, TEXTS)
    return st.just("") | each | st.lists(each, min_size=2, max_size=3).map(", ".join)


def table(rows: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """Make a table (JDM) with a row per pair of cells; the outcome says which row it was."""
    content = {
        "hitPolicy": "first",
        "passThrough": False,
        "inputs": [{"id": f"c-{name}", "name": name, "field": name} for name in INPUTS],
        "outputs": [{"id": "out", "name": "out", "field": "route"}],
        "rules": [
            {"_id": str(number), "c-amount": amount, "c-grade": grade, "out": f"'row {number}'"}
            for number, (amount, grade) in enumerate(rows)
        ],
    }
    nodes = [
        {"id": "in", "type": "inputNode", "name": "in"},
        {"id": "table", "type": "decisionTableNode", "name": "table", "content": content | more},
        {"id": "out", "type": "outputNode", "name": "out"},
    ]
    edges = [
        {"id": f"{one}-{other}", "sourceId": one, "targetId": other, "type": "edge"}
        for one, other in (("in", "table"), ("table", "out"))
    ]
    return {"contentType": "application/vnd.gorules.decision", "nodes": nodes, "edges": edges}


def rule(decision: dict[str, Any]) -> CompiledRule:
    return compile_rule(
        Rule(
            rule="route", version=1, entity="order", source="erp", table="t.json", inputs=INPUTS,
            sets=["route"], otherwise={"route": "nobody"}, decision=decision,
        )
    )  # fmt: skip


class Counting:
    """An engine that counts how often it is asked."""

    def __init__(self, engine: Any) -> None:
        self.asked, self._engine = 0, engine

    def evaluate(self, *arguments: Any) -> Any:
        self.asked += 1
        return self._engine.evaluate(*arguments)


def counted(compiled: CompiledRule, constants: Any) -> tuple[CompiledRule, Counting]:
    engine = Counting(compiled.engine)
    made = CompiledRule(compiled.name, compiled.rule, compiled.inputs, engine, constants, {})
    return made, engine


def decide(compiled: CompiledRule, amount: Decimal, grade: str) -> dict[str, str]:
    record = {"amount": amount, "grade": grade}
    return compiled(Aggregate(root={}, singles={}, record=record))


@given(
    st.lists(st.tuples(_number_cells(), _text_cells()), min_size=1, max_size=4),
    st.lists(st.tuples(NUMBERS | st.just("1e3") | st.just("2.05"), TEXTS), min_size=1, max_size=12),
)
def test_a_plain_table_decides_as_if_it_were_asked_about_each_record(
    rows: list[tuple[str, str]], records: list[tuple[str, str]]
) -> None:
    decision = table(rows)
    constants = constants_of(decision, list(INPUTS))
    assert constants is not None
    kept, (asked, _) = rule(decision), counted(rule(decision), None)
    for amount, grade in records:
        found = decide(kept, Decimal(amount), grade)
        assert found == decide(asked, Decimal(amount), grade)


def test_the_engine_is_asked_once_for_inputs_that_the_table_cannot_tell_apart() -> None:
    compiled = rule(table([("> 100000", "'A'"), ("[5..10)", ""), ("", "")]))
    kept, engine = counted(compiled, compiled.constants)
    for amount in ("100000.01", "100001", "1e9"):
        assert decide(kept, Decimal(amount), "A") == {"route": "row 0"}
    assert engine.asked == 1
    for amount, row, asked in (("5", 1, 2), ("7", 1, 3), ("9.99", 1, 3), ("10", 2, 4), ("11", 2, 5)):  # fmt: skip
        assert decide(kept, Decimal(amount), "B") == {"route": f"row {row}"}
        assert engine.asked == asked
    assert decide(kept, Decimal(12), "C") == {"route": "row 2"}
    assert engine.asked == 5


@pytest.mark.parametrize(
    "cell",
    [
        "> grade", "$ > 5", "10-5", "> 10 - 5", "> 5 + 1", "len($) > 1", "in [1, 2]", "not 5", "null", "true",
        "`5`", "> amount", "'it\\'s'", "1_000", "1e5", "12345678901234567", "date('2026-01-01')",
    ],
)  # fmt: skip
def test_a_table_with_more_than_constants_is_asked_about_each_record(cell: str) -> None:
    assert constants_of(table([(cell, "")]), list(INPUTS)) is None


@pytest.mark.parametrize(
    "more",
    [
        {"passThrough": True},
        {"executionMode": "loop"},
        {"inputField": "lines"},
        {"outputPath": "x"},
        {"inputs": [{"id": "c-amount", "name": "a", "field": "amount + 1"}]},
        {"inputs": [{"id": "c-amount", "name": "a"}]},
        {"rules": [{"_id": "0", "out": "amount"}]},
        {"rules": [{"_id": "0", "out": "'a' + grade"}]},
    ],
)
def test_a_table_that_does_more_than_choose_is_asked_about_each_record(
    more: dict[str, Any],
) -> None:
    assert constants_of(table([("", "")], **more), list(INPUTS)) is None


@pytest.mark.parametrize(
    "decision",
    [
        {},
        {"nodes": [{}, {}, {}]},
        {"nodes": [{"type": kind} for kind in ("inputNode", "decisionTableNode", "outputNode")]},
        table([("", "")], rules=[{"_id": "0", "c-amount": None, "out": "'a'"}]),
        table([("", "")], rules=[{"_id": "0", "c-amount": 5, "out": "'a'"}]),
        table([("", "")], inputs=[{}]),
    ],
)
def test_what_is_no_table_is_left_to_the_engine(decision: dict[str, Any]) -> None:
    assert constants_of(decision, list(INPUTS)) is None


def test_a_graph_of_more_than_one_table_is_asked_about_each_record() -> None:
    decision = table([("", "")])
    decision["nodes"].append({"id": "more", "type": "expressionNode", "content": {}})
    assert constants_of(decision, list(INPUTS)) is None


def test_only_so_many_decisions_are_remembered() -> None:
    compiled = rule(table([("> 5", ""), ("", "")]))
    for number in range(10_000):
        compiled.decided[-number - 1,] = {}
    assert decide(compiled, Decimal(6), "A") == {"route": "row 0"}
    assert len(compiled.decided) == 1
