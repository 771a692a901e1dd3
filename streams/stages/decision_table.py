"""
What a decision table can tell apart: to it, inputs between the same two of its numbers, or of none of its texts, are alike.

So a decision holds for all inputs of a kind, and the engine, whose code is larger than a core's cache, is asked once
for each (docs/performance.md). The engine alone decides; here is only told which inputs it can't tell apart.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection
from decimal import Decimal
from typing import Any

_NUMBER = r"-?\d{1,15}(?:\.\d{1,10})?"
_TEXT = r"'[^'\\]*'|\"[^\"\\]*\""
_ITEM = rf"(?:(?:==|!=|<=|>=|<|>)\s*)?{_NUMBER}|(?:(?:==|!=)\s*)?(?:{_TEXT})|[\[\](]\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*[\]\[)]"
#: A cell that compares its input with constants, and does nothing else (https://docs.gorules.io/learn/zen-language/syntax).
_PLAIN = re.compile(rf"\s*(?:(?:{_ITEM})(?:\s*(?:,|\band\b|\bor\b)\s*(?:{_ITEM}))*)?\s*")
_CONSTANT = re.compile(rf"\s*(?:{_TEXT})?\s*")
_TEXTS, _NUMBERS = re.compile(_TEXT), re.compile(_NUMBER)
_NODES = ["decisionTableNode", "inputNode", "outputNode"]
#: What a table may say of itself beyond its columns and rows, if it is to depend on nothing but its inputs.
_PLAIN_TABLE = {"passThrough": (False,), "executionMode": (None, "single"), "inputField": (None, ""), "outputPath": (None, "")}  # fmt: skip


class Constants:
    """The numbers and texts that a table compares one input with."""

    def __init__(self, cells: Collection[str]) -> None:
        texts = [text for cell in cells for text in _TEXTS.findall(cell)]
        self._texts = frozenset([text[1:-1] for text in texts])
        numbers = [Decimal(number) for cell in cells for number in _NUMBERS.findall(cell)]
        self._numbers = sorted(set(numbers))

    def kind(self, value: Decimal | str) -> int | str:
        """Give what is equal for values that compare alike with all of them. The value: a finite Decimal, or a text that is not empty."""
        if isinstance(value, str):
            return value if value in self._texts else ""
        place = bisect_left(self._numbers, value)
        equal = place < len(self._numbers) and self._numbers[place] == value
        return 2 * place + equal


def constants_of(decision: dict[str, Any], inputs: Collection[str]) -> list[Constants] | None:
    """
    Give what a table compares each input with, in their order.

    `decision` is its JDM. None where it does more than compare inputs with constants to choose among constants: then it
    has to be asked about every record. What is no JDM is that, too: the engine says so.
    """
    nodes = decision.get("nodes", [])
    if sorted([str(node.get("type")) for node in nodes]) != _NODES:
        return None
    (table,) = [node.get("content", {}) for node in nodes if node["type"] == "decisionTableNode"]
    if any(table.get(name) not in plain for name, plain in _PLAIN_TABLE.items()):
        return None
    cells: dict[str, list[str]] = {name: [] for name in inputs}
    for column in table.get("inputs", []):
        name, found = column.get("field"), _cells(table, column, _PLAIN)
        if name not in cells or found is None:
            return None
        cells[name] += found
    for column in table.get("outputs", []):
        if _cells(table, column, _CONSTANT) is None:
            return None
    return [Constants(each) for each in cells.values()]


def _cells(
    table: dict[str, Any], column: dict[str, Any], plain: re.Pattern[str]
) -> list[str] | None:
    """Give the cells of a column; None where one is not plain."""
    cells: list[str] = []
    for row in table.get("rules", []):
        cell = row.get(column.get("id"), "")
        if not isinstance(cell, str) or not plain.fullmatch(cell):
            return None
        cells.append(cell)
    return cells
