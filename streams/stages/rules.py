"""
Rules: decision tables set fields of a mapped record.

A rule decides, it never computes money. Its inputs are checked first: one that is missing, or that the
engine could only see rounded or as text, sends the record to a person (`otherwise`), never to "approve".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import zen

from schemas.declarations import DecimalInput, LookupInput, Rule, TextInput
from schemas.errors import TongbuError
from streams.stages.decision_table import Constants, constants_of
from streams.stages.map import Aggregate

#: A finite Decimal that the engine sees exactly, or a text; None where there is none.
Input = Decimal | str
Read = Callable[[Aggregate], Input | None]

#: So many kinds of inputs are remembered at most.
_MOST = 10_000
#: A decimal of at most 15 digits survives the way through a double.
_SHORT, _STEP = Decimal(10**11), Decimal("0.0001")


@dataclass(frozen=True)
class CompiledRule:
    """A rule in force; `name` is what records it has decided carry in their meta."""

    name: str
    rule: Rule
    inputs: dict[str, Read]
    engine: Any
    #: What the table compares each input with; None: it is asked about every record.
    constants: list[Constants] | None
    #: What it has decided, by kind of inputs.
    decided: dict[tuple[int | str, ...], dict[str, str]]

    def __call__(self, aggregate: Aggregate) -> dict[str, str]:
        """Give the fields that the rule sets."""
        values: list[Input] = []
        for read in self.inputs.values():
            value = read(aggregate)
            if value is None:
                return self.rule.otherwise
            values.append(value)
        if self.constants is None:
            return self._decide(values)
        kinds = [each.kind(value) for each, value in zip(self.constants, values, strict=True)]
        key = tuple(kinds)
        found = self.decided.get(key)
        if found is None:
            if len(self.decided) >= _MOST:
                self.decided.clear()
            found = self.decided[key] = self._decide(values)
        return found

    def _decide(self, values: list[Input]) -> dict[str, str]:
        """Ask the engine."""
        context = {
            name: value if isinstance(value, str) else exact_number(value)
            for name, value in zip(self.inputs, values, strict=True)
        }
        result = self.engine.evaluate(self.rule.rule, context)["result"]
        decided = {}
        for name in self.rule.sets:
            value = result.get(name)
            if not isinstance(value, str):
                return self.rule.otherwise
            decided[name] = value
        return decided


def compile_rule(rule: Rule) -> CompiledRule:
    """Compile a rule; raise TongbuError where its decision table is none."""
    try:
        engine = zen.ZenEngine(
            {"loader": {"type": "static", "content": {rule.rule: rule.decision}}}
        )
    except Exception as error:
        raise TongbuError(
            f"rule {rule.rule}: its table is no JDM: {error}", "Mend the table."
        ) from error
    inputs = {name: _reader(each) for name, each in rule.inputs.items()}
    constants = constants_of(rule.decision, rule.inputs)
    return CompiledRule(f"{rule.rule}@{rule.version}", rule, inputs, engine, constants, {})


def _reader(declared: DecimalInput | TextInput | LookupInput) -> Read:
    if isinstance(declared, DecimalInput):
        path = declared.decimal.split(".")
        return lambda aggregate: _exact(_walk(aggregate.record, path))
    if isinstance(declared, TextInput):
        path = declared.text.split(".")
        return lambda aggregate: _text(_walk(aggregate.record, path))
    alias, _, column = declared.lookup.partition(".")
    return lambda aggregate: _text((aggregate.singles.get(alias) or {}).get(column))


def _walk(value: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _exact(value: Any) -> Decimal | None:
    """Give a finite Decimal that the engine will see exactly; None for all else."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    short = -_SHORT < value < _SHORT and not value % _STEP
    return value if short or exact_number(value) is not None else None


def exact_number(value: Decimal) -> float | int | None:
    """Give the number by which the engine sees a finite Decimal exactly; None where there is none."""
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else None
