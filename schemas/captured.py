"""The captured schema: columns, types and keys of the source tables, as their catalog spells them."""

from __future__ import annotations

import msgspec


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column; `type` is the database's own spelling, e.g. `numeric(20,4)` or `int(10) unsigned`."""

    name: str
    type: str
    nullable: bool = True


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """
    A captured table. `schema` is the PostgreSQL schema, or the MariaDB/MySQL database.

    A `keyless` one (PostgreSQL, REPLICA IDENTITY FULL) is told by all its columns, which stand as its key.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    keyless: bool = False

    @property
    def qualified(self) -> str:
        """The name that mappings use: `<schema>.<table>`."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """Find a column by its exact name."""
        return next((column for column in self.columns if column.name == name), None)
