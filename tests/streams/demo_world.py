"""The shipped declarations in force over the tables of tongbu/world/*.sql, without any database."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from schemas import control
from schemas.captured import Column, Table
from schemas.catalog import Catalog
from schemas.declarations import load_mappings, load_rules, load_sources, to_bundle
from streams.in_force import InForce, compile_in_force

ROOT = Path(__file__).parents[2]
PLACEHOLDER = "__unavailable__"

SOURCES = load_sources()
MAPPINGS = load_mappings(ROOT / "streams" / "mappings")
RULES = load_rules(ROOT / "streams" / "rules")
CATALOG = Catalog.load()

_TABLE = re.compile(r'CREATE TABLE IF NOT EXISTS "?(\w+)"? \((.*?)\n\);', re.DOTALL)
_COLUMN = re.compile(r'\s*"?(\w+)"? (\w+(?:\([\d, ]+\))?)(.*)')
#: How the catalogs spell the types that the scripts write shorter.
_SPELLING = {
    "postgresql": (
        (r"^varchar", "character varying"),
        (r"^timestamp.*", r"\g<0> without time zone"),
    ),
    "mariadb": ((r"^int$", "int(11)"),),
}


@cache
def captured(source: str) -> control.CapturedSchema:
    """Give the tables that the mappings of a source read, as its live catalog would describe them."""
    database = SOURCES[source].database
    schema = {"postgresql": "public", "mariadb": source}[database]
    script = (ROOT / "tongbu" / "world" / f"{source}.sql").read_text(encoding="utf-8")
    plain = re.sub(r"--.*", "", script)
    found = {name: _table(schema, name, body, database) for name, body in _TABLE.findall(plain)}
    wanted = sorted(
        {
            table.partition(".")[2]
            for each in MAPPINGS
            if each.value.source == source
            for table in each.value.tables
        }
    )
    return control.CapturedSchema(
        source=source, database=database, tables=tuple(found[name] for name in wanted)
    )


def _table(schema: str, name: str, body: str, database: str) -> Table:
    columns, key = [], []
    for line in body.splitlines():
        match = _COLUMN.match(line)
        if match is None or match[1] == "UNIQUE":
            continue
        if "PRIMARY KEY" in match[3]:
            key.append(match[1])
        nullable = not re.search("NOT NULL|PRIMARY KEY", match[3])
        columns.append(Column(name=match[1], type=_spelled(match[2], database), nullable=nullable))
    return Table(schema=schema, name=name, columns=tuple(columns), key=tuple(key))


def _spelled(type_: str, database: str) -> str:
    plain = type_.replace(" ", "")
    for short, spelling in _SPELLING[database]:
        plain = re.sub(short, spelling, plain)
    return plain


@cache
def in_force(source: str) -> InForce:
    """Compile everything that is declared for a source."""
    mappings = [each for each in MAPPINGS if each.value.source == source]
    declared = control.Declarations(
        source=source,
        hash="h1",
        zone=SOURCES[source].zone,
        unavailable_placeholder=PLACEHOLDER,
        mappings=tuple(to_bundle(each) for each in mappings),
        rules=tuple(to_bundle(each) for each in RULES if each.value.source == source),
        schemas=tuple(
            control.OutputSchema(topic=each.topic, id=number, schema=each.schema)
            for number, each in enumerate(CATALOG.all())
        ),
    )
    return compile_in_force(declared, captured(source))
