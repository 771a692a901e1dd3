"""
DDL: what MariaDB and MySQL log of their tables, as Debezium parses it, becomes the captured schema's form.

Debezium gives type names as the statement spells them; the catalog's spelling follows from a table of synonyms.
What is not in it keeps its spelling: it has no reader then, and is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.captured import Column, Table
from schemas.control import CapturedSchema


class _Column(msgspec.Struct, rename="camel"):
    name: str
    type_name: str
    length: int | None = None
    scale: int | None = None
    optional: bool = True


class _Table(msgspec.Struct, rename="camel"):
    columns: list[_Column]
    primary_key_column_names: list[str] | None = None


class TableChange(msgspec.Struct):
    """A change of one table as Debezium brings it: `id` is quoted, `table` null where it is gone."""

    type: str
    id: str
    table: _Table | None = None

    @property
    def name(self) -> str:
        """The name that mappings use."""
        return self.id.replace('"', "")

    def captured(self) -> Table | None:
        """Give the table as the catalog would describe it; None where it is gone."""
        if self.table is None:
            return None
        database, _, name = self.name.partition(".")
        columns = tuple(
            Column(name=each.name, type=_spelled(each), nullable=each.optional)
            for each in self.table.columns
        )
        key = tuple(self.table.primary_key_column_names or ())
        return Table(schema=database, name=name, columns=columns, key=key)


class _Ddl(msgspec.Struct, rename="camel"):
    table_changes: tuple[TableChange, ...] = ()


_decode = msgspec.json.Decoder(_Ddl).decode


def table_changes(value: bytes) -> tuple[TableChange, ...]:
    """Give what a DDL record changes."""
    return _decode(value).table_changes


def redefine(captured: CapturedSchema, changes: Iterable[TableChange]) -> CapturedSchema:
    """Give the captured schema after changes; tables that it does not have are no matter, dropped ones stay as they were."""
    new = {table.qualified: table for each in changes if (table := each.captured())}
    tables = tuple(new.get(table.qualified, table) for table in captured.tables)
    return msgspec.structs.replace(captured, tables=tables)


#: How a statement may spell a type -> how the catalog does.
_SYNONYMS = {
    "integer": "int", "int4": "int", "middleint": "mediumint", "int1": "tinyint", "int2": "smallint", "int3": "mediumint",
    "int8": "bigint", "bool": "tinyint(1)", "boolean": "tinyint(1)", "dec": "decimal", "fixed": "decimal", "numeric": "decimal",
    "double precision": "double", "real": "double", "float8": "double", "float4": "float", "character": "char",
    "character varying": "varchar", "char varying": "varchar", "nchar": "char", "nvarchar": "varchar", "national char": "char",
    "national varchar": "varchar", "national character": "char", "long": "mediumtext", "long varchar": "mediumtext",
    "long varbinary": "mediumblob", "clob": "longtext",
}  # fmt: skip
_SUFFIXES = ("unsigned", "zerofill", "signed")


def _spelled(column: _Column) -> str:
    words = column.type_name.lower().split()
    plain = " ".join(word for word in words if word not in _SUFFIXES)
    suffix = "".join(f" {word}" for word in ("unsigned", "zerofill") if word in words)
    base = _SYNONYMS.get(plain, plain)
    if "zerofill" in words and "unsigned" not in words:
        suffix = " unsigned zerofill"
    if column.length is None or base.endswith(")") or base in ("enum", "set"):
        return base + suffix
    scale = "" if column.scale is None else f",{column.scale}"
    return f"{base}({column.length}{scale}){suffix}"
