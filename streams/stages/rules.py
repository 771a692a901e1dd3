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
from streams.stages.map import Aggregate

Read = Callable[[Aggregate], Any]


@dataclass(frozen=True)
class CompiledRule:
    """A rule in force; `name` is what records it has decided carry in their meta."""

    name: str
    rule: Rule
    inputs: dict[str, Read]
    engine: Any

    def __call__(self, aggregate: Aggregate) -> dict[str, str]:
        """Give the fields that the rule sets."""
        context = {name: read(aggregate) for name, read in self.inputs.items()}
        if None in context.values():
            return self.rule.otherwise
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
    return CompiledRule(f"{rule.rule}@{rule.version}", rule, inputs, engine)


def _reader(declared: DecimalInput | TextInput | LookupInput) -> Read:
    if isinstance(declared, DecimalInput):
        path = declared.decimal.split(".")
        return lambda aggregate: exact_number(_walk(aggregate.record, path))
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


def exact_number(value: Any) -> float | int | None:
    """Give the number that the engine will see exactly; None where it has no exact one (or is no finite Decimal)."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else None
