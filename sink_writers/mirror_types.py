"""
The type of a mirrored column in a target: the same in the same family of databases, else the closest that is exact.

docs/targets.md has the table for people. Where no type of the other family holds every value, it is text.
"""

from __future__ import annotations

import re

#: MariaDB and MySQL are one family.
_FAMILY = {"postgresql": "postgresql", "mariadb": "mysql", "mysql": "mysql"}
_FRACTION = r"(?:\((\d)\))?"

#: Type of MariaDB or MySQL -> type of PostgreSQL.
_TO_POSTGRESQL = (
    (r"tinyint.*|smallint(\(\d+\))?|year.*", "smallint"),
    (r"smallint.*|mediumint.*|int(\(\d+\))?", "integer"),
    (r"int.*|bigint(\(\d+\))?", "bigint"),
    (r"bigint.*", "numeric(20,0)"),
    (r"decimal(\(\d+,\d+\)).*", r"numeric\1"),
    (r"double.*", "double precision"),
    (r"bit(\(\d+\))", r"bit\1"),
    (r"date", "date"),
    (rf"datetime{_FRACTION}", "timestamp without time zone"),
    (rf"timestamp{_FRACTION}", "timestamp with time zone"),
    (rf"time{_FRACTION}", "interval"),  # it goes beyond a day, and below zero
    (r"(?:var)?char(\(\d+\))", r"character varying\1"),
    (r".*(binary|blob).*", "bytea"),
)
#: Type of PostgreSQL -> type of MariaDB and MySQL.
_TO_MYSQL = (
    (r"smallint", "smallint"),
    (r"integer", "int"),
    (r"bigint", "bigint"),
    (r"oid", "int unsigned"),
    (r"money", "decimal(19,2)"),
    (r"real|double precision", "double"),
    (r"boolean", "tinyint(1)"),
    (r"bit(\(\d+\))", r"bit\1"),
    (r"date", "date"),
    (r"time(\(\d\)) without time zone", r"time\1"),
    (r"time without time zone", "time(6)"),
    (r"timestamp(\(\d\))? with(out)? time zone", "datetime(6)"),
    (r"uuid", "varchar(36)"),
    (r"inet|cidr|macaddr8?", "varchar(64)"),
    (r"bytea", "longblob"),
)
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_CHARACTERS = re.compile(r"character(?: varying)?\((\d+)\)")
_MOST_DIGITS, _MOST_PLACES, _MOST_CHARACTERS = 65, 30, 4000
#: As long as a text may be in a key of MariaDB and MySQL, for which it needs a length.
_KEY_TEXT = "varchar(255)"


def target_type(database: str, kind: str, column_type: str, *, in_key: bool) -> str:
    """Give the type in a target of `kind` for a column of a source's `database`, as that spells its type."""
    if _FAMILY[database] == _FAMILY[kind]:
        return _same(kind, column_type, in_key=in_key)
    if kind == "postgresql":
        return _first(_TO_POSTGRESQL, column_type) or "text"
    text = _KEY_TEXT if in_key else "longtext"
    return (
        _number(column_type)
        or _characters(column_type, text)
        or _first(_TO_MYSQL, column_type)
        or text
    )


def _same(kind: str, column_type: str, *, in_key: bool) -> str:
    if kind == "postgresql":  # the catalog does not tell which enum it is
        return {"enum": "text", "enum[]": "text[]"}.get(column_type, column_type)
    if column_type in ("enum", "set"):  # as DDL in the log has it, without its values
        return _KEY_TEXT if in_key else "text"
    return "longtext" if kind == "mariadb" and column_type == "json" else column_type


def _first(table: tuple[tuple[str, str], ...], column_type: str) -> str | None:
    for pattern, replacement in table:
        match = re.fullmatch(pattern, column_type, re.IGNORECASE)
        if match:
            return match.expand(replacement)
    return None


def _number(column_type: str) -> str | None:
    match = _NUMERIC.fullmatch(column_type)
    if match is None:
        return None
    digits, places = int(match[1]), int(match[2])
    fits = digits <= _MOST_DIGITS and 0 <= places <= min(digits, _MOST_PLACES)
    return f"decimal({digits},{places})" if fits else None


def _characters(column_type: str, text: str) -> str | None:
    match = _CHARACTERS.fullmatch(column_type)
    if match is None:
        return None
    return f"varchar({match[1]})" if int(match[1]) <= _MOST_CHARACTERS else text
