"""
The mapping language at work: a mapping is a tree of nodes, one per form of expression, that a record is evaluated by.

What a node stands on is evaluated only when it is asked for, so nothing fails that is not. Null is None. `streams.stages.map_code`
makes the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from streams.errors import RecordError
from streams.records import Row
from streams.stages.convert import EXACT, INTEGER_DIGITS, local_time

ROOT = "root"
_ZERO = Decimal(0)


class Rows:
    """What an evaluation reads: the rows of an aggregate; `row` is that of the array at hand, `arrays` what is mapped of them."""

    def __init__(
        self, root: Row, singles: dict[str, Row | None], parts: dict[str, list[Row]]
    ) -> None:
        self.root = self.row = root
        self.singles = singles
        self.parts = parts
        self.arrays: dict[str, list[dict[str, Any]]] = {}


class Node:
    """An expression."""

    def value(self, rows: Rows) -> Any:
        """Give what it is of an aggregate; raise RecordError, or KeyError where a row lacks a column."""
        raise NotImplementedError


class Cell(Node):
    """A column as it is, of the row at hand or of one that an alias names."""

    def __init__(self, alias: str | None, name: str) -> None:
        self.alias, self.name = alias, name

    def value(self, rows: Rows) -> Any:
        """Give it; None where there is no such row."""
        if self.alias is None:
            return rows.row[self.name]
        row = rows.root if self.alias == ROOT else rows.singles[self.alias]
        return None if row is None else row[self.name]


class Converted(Node):
    """A column in the form of its field; `where` and `table` say which it is."""

    def __init__(self, cell: Cell, convert: Callable[[Any], Any], where: str, table: str) -> None:
        self.cell, self.convert, self.where, self.table = cell, convert, where, table

    def value(self, rows: Rows) -> Any:
        """Convert it."""
        raw = self.cell.value(rows)
        if raw is None:
            return None
        try:
            return self.convert(raw)
        except (ValueError, TypeError) as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> RecordError:
        """Say what is wrong without the value: messages of the standard library quote it."""
        text = str(error)
        calm = text.partition(":")[0] if "'" in text or '"' in text else text
        return RecordError("map", "conversion", f"{self.where}: {calm}", self.table)


class Text(Node):
    """A column of another type than text, as text."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def value(self, rows: Rows) -> Any:
        """Spell it."""
        raw = self.cell.value(rows)
        if raw is None:
            return None
        return str(int(raw) if isinstance(raw, bool) else raw)


class Constant(Node):
    """The same for every record."""

    def __init__(self, constant: Any) -> None:
        self.constant = constant

    def value(self, rows: Rows) -> Any:  # noqa: ARG002 - the same shape as the others
        """Give it."""
        return self.constant


class CodeOf(Node):
    """A code in the words of the model; `default` (None: an error) where it is empty or unknown."""

    def __init__(self, of: Node, codes: dict[str, Any], default: Any, spelled: str) -> None:
        self.of, self.codes, self.default, self.spelled = of, codes, default, spelled

    def value(self, rows: Rows) -> Any:
        """Translate it."""
        read = self.of.value(rows)
        if read is None or read == "":
            return self.default
        found = self.codes.get(read, self.default)
        if found is None:
            message = f"a code of `{self.spelled}` is not mapped"
            raise RecordError("map", "unmapped-code", message)
        return found


class Condition:
    """Whether a column's text is one of some; with `texts` None, whether there is any, or none (`present`)."""

    def __init__(self, of: Node, texts: frozenset[str] | None, present: bool) -> None:
        self.of, self.texts, self.present = of, texts, present

    def holds(self, rows: Rows) -> bool:
        """Tell."""
        read = self.of.value(rows)
        if self.texts is not None:
            return read in self.texts
        return (read is not None and read != "") is self.present


class Case:
    """What an expression is where all conditions hold."""

    def __init__(self, conditions: list[Condition], then: Any) -> None:
        self.conditions, self.then = conditions, then


class FirstCase(Node):
    """The first case that holds."""

    def __init__(self, cases: list[Case], default: Any) -> None:
        self.cases, self.default = cases, default

    def value(self, rows: Rows) -> Any:
        """Give what it says."""
        for case in self.cases:
            for condition in case.conditions:
                if not condition.holds(rows):
                    break
            else:
                return case.then
        return self.default


def joined(parts: list[str]) -> str:
    """
    Join the columns of a natural key with |, so that no two keys are the same.

    Only one of several columns of which some hold a | has backslashes before each of those and of its own: no plain one has as many |.
    """
    key = "|".join(parts)
    if len(parts) == 1 or key.count("|") == len(parts) - 1:
        return key
    return "|".join([part.replace("\\", "\\\\").replace("|", "\\|") for part in parts])


class IdOf(Node):
    """The canonical id of another entity, whose key the columns hold."""

    def __init__(self, prefix: str, key: list[Node]) -> None:
        self.prefix, self.key = prefix, key

    def value(self, rows: Rows) -> Any:
        """Compose it; None where a part of the key is empty."""
        parts: list[str] = []
        for node in self.key:
            part = node.value(rows)
            if part is None or part == "":
                return None
            parts.append(part)
        return self.prefix + joined(parts)


class Pair(Node):
    """A decimal with what it is counted in (`names` of both); null where the decimal is."""

    def __init__(self, names: tuple[str, str], number: Node, unit: Node, spelled: str) -> None:
        self.names, self.number, self.unit, self.spelled = names, number, unit, spelled

    def value(self, rows: Rows) -> Any:
        """Give both."""
        number = self.number.value(rows)
        if number is None:
            return None
        unit = self.unit.value(rows)
        if unit is None:
            message = f"{self.names[1]} of `{self.spelled}` is null"
            raise RecordError("map", "required", message)
        return {self.names[0]: number, self.names[1]: unit}


class LocalTime(Node):
    """A time of the source's zone, from one column, or from a date and what follows it."""

    def __init__(self, texts: list[Node], zone: str, spelled: str) -> None:
        self.texts, self.zone, self.spelled = texts, zone, spelled

    def value(self, rows: Rows) -> Any:
        """Give the instant and the source's text; None where the first column is empty."""
        texts: list[str] = []
        for node in self.texts:
            text = node.value(rows)
            if text:
                texts.append(text)
            elif not texts:
                return None
        try:
            return local_time(" ".join(texts), self.zone)
        except ValueError as error:
            message = f"`{self.spelled}` is not a date and time"
            raise RecordError("map", "conversion", message) from error


class CountOf(Node):
    """How many rows a part has."""

    def __init__(self, part: str) -> None:
        self.part = part

    def value(self, rows: Rows) -> Any:
        """Count them."""
        return len(rows.parts[self.part])


class SumOf(Node):
    """The sum of a field over a mapped array; `nothing` where no item has one."""

    def __init__(self, array: str, name: str, nothing: Any) -> None:
        self.array, self.name, self.nothing = array, name, nothing

    def value(self, rows: Rows) -> Any:
        """Add up, exactly; amounts of money have to have the same currency."""
        total: Any = None
        currency: Any = None
        for item in rows.arrays[self.array]:
            value = item[self.name]
            if value is None:
                continue
            if isinstance(value, dict):
                if currency is None:
                    currency = value["currency"]
                elif value["currency"] != currency:
                    message = f"the lines of `{self.array}.{self.name}` differ in currency"
                    raise RecordError("map", "mixed-currencies", message)
                value = value["amount"]
            total = EXACT.add(_ZERO if total is None else total, value)
        if total is None:
            return self.nothing
        if total.adjusted() >= INTEGER_DIGITS:
            message = (
                f"sum of `{self.array}.{self.name}`: more than {INTEGER_DIGITS} integer digits"
            )
            raise RecordError("map", "conversion", message)
        return total if currency is None else {"amount": total, "currency": currency}


class Field:
    """A field of a record: whether it may be null, and the symbols it may have, if it is an enum."""

    def __init__(
        self, name: str, node: Node, required: bool, symbols: frozenset[str] | None
    ) -> None:
        self.name, self.node, self.required, self.symbols = name, node, required, symbols
        self.is_array = isinstance(node, EachOf)


class Fields(Node):
    """A record of fields."""

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields

    def value(self, rows: Rows) -> dict[str, Any]:
        """Evaluate and check them."""
        record: dict[str, Any] = {}
        for field in self.fields:
            value = field.node.value(rows)
            if value is None:
                if field.required:
                    message = f"field `{field.name}` is required, but it is null"
                    raise RecordError("map", "required", message)
            elif field.symbols is not None and value not in field.symbols:
                message = f"field `{field.name}`: a code that is not mapped"
                raise RecordError("map", "unmapped-code", message)
            if field.is_array:
                rows.arrays[field.name] = value
            record[field.name] = value
        return record


class EachOf(Node):
    """A record for each row of a part."""

    def __init__(self, part: str, fields: Fields) -> None:
        self.part, self.fields = part, fields

    def value(self, rows: Rows) -> Any:
        """Evaluate them, in the part's order."""
        outer, records = rows.row, []
        for row in rows.parts[self.part]:
            rows.row = row
            records.append(self.fields.value(rows))
        rows.row = outer
        return records
