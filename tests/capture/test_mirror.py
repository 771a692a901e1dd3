"""Tables that are mirrored as they are: SELECT * at the source is SELECT * at the mirror, whatever the types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest
from capturing import SCHEMA, Captured
from mirroring import Mirrored, Target
from type_table import DECODED
from types_on_servers import columns, fill, live_table

from schemas.captured import Table
from sink_writers import targets
from streams.stages.mirror import text_of
from tongbu.mirror_parity import compare, source_side, target_side
from tongbu.parity import Parity

#: The other family that a source's types are mirrored into, too.
ACROSS = {"postgresql": "mariadb", "mariadb": "postgresql", "mysql": "postgresql"}
TABLES = ("类型_snapshot", "类型_streamed")


@pytest.fixture
def same(captured: Captured) -> Iterator[Target]:
    """A target of the source's own kind; in its own server, which has the same extensions."""
    target = Target(captured.database, captured.dsn)
    yield target
    target.close()


@pytest.fixture
def other(captured: Captured, stack_instance: Any) -> Iterator[Target]:
    """A target of the other family."""
    kind = ACROSS[captured.database]
    dsns = {
        "postgresql": stack_instance.postgres_admin_dsn,
        "mariadb": stack_instance.mariadb_admin_dsn,
    }
    target = Target(kind, dsns[kind]())
    yield target
    target.close()


def test_every_type_of_the_matrix_is_the_same_at_a_mirror_of_its_family(
    captured: Captured, same: Target, tmp_path: Path
) -> None:
    fill(captured, "streamed")
    tables = [live_table(captured, name) for name in TABLES]
    mirrored = Mirrored(tmp_path, captured, tables, same)
    mirrored.run(captured.until_now())
    mirrored.close()

    for table in tables:
        form = "{}::text" if captured.database == "postgresql" else "{}"
        source = rows(captured.select, captured.database, f"{SCHEMA}.{table.name}", table, form)
        mirror = rows(same.run, same.kind, same.table(table.name), table, form)
        assert source.keys() == mirror.keys()
        assert differing(source, mirror, same_json if captured.database == "mysql" else None) == {}


def test_every_type_of_the_matrix_is_exact_at_a_mirror_of_the_other_family(
    captured: Captured, other: Target, tmp_path: Path
) -> None:
    name, since = f"across_{captured.database}", captured.end
    make_across(captured, name)
    table = live_table(captured, name)
    mirrored = Mirrored(tmp_path, captured, [table], other)
    mirrored.run(captured.until_now(since))
    mirrored.close()
    assert (other.refused(), mirrored.letters) == ([], [])

    source = rows(captured.select, captured.database, f"{SCHEMA}.{name}", table, as_text)
    mirror = rows(other.run, other.kind, other.table(name), table, as_text)
    if captured.database == "postgresql":  # what the mirror has means the same to the source
        mirror = {
            place: value if value is None else understood(captured, value, place[1])
            for place, value in mirror.items()
        }
    assert source.keys() == mirror.keys()
    assert differing(source, mirror, plain) == {}
    assert len(source) > len(table.columns)


@pytest.mark.parametrize("where", ["same", "other"])
def test_a_mirror_is_reconciled_with_its_source_value_by_value(
    captured: Captured, where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target: Target = request.getfixturevalue(where)
    name, since = f"reconciled_{where}_{captured.database}", captured.end
    make_across(captured, name)
    table = live_table(captured, name)
    mirrored = Mirrored(tmp_path, captured, [table], target)
    mirrored.run(captured.until_now(since))
    mirrored.close()
    (there,) = targets.mirrored(target.binding).values()

    def compared(apart: set[Any] | None = None) -> tuple[Parity, list[str]]:
        parity = Parity()
        source = source_side(captured.database, table.qualified, captured.dsn)
        mirror = target_side(target.kind, there.name, targets.dialect(target.binding))
        late = compare(there, source, mirror, apart or set(), parity)
        return parity, late

    equal, late = compared()
    assert (equal.first, equal.rows > 1) == ([], True)
    assert (late == []) == (where == "same")
    number = next(
        each.name
        for each in there.columns
        if each.source.startswith(("smallint", "tinyint")) and each.name not in late
    )
    full = target.table(there.name)
    column = f'"{number}"' if target.kind == "postgresql" else f"`{number}`"
    target.run(f"update {full} set {column} = 7 where id = 0")
    target.run(f"delete from {full} where id = 1")
    captured.run(f"DELETE FROM {SCHEMA}.{name} WHERE id = 2")
    found, _ = compared()
    assert [(each.key, each.what, each.columns) for each in found.first] == [
        (("0",), "differs", (number,)),
        (("1",), "missing", ()),
        (("2",), "extra", ()),
    ]
    assert compared({("0",), ("1",), ("2",)})[0].mismatches == 0


def make_across(captured: Captured, name: str) -> None:
    """Make a table of the matrix with those values that the other family has, and fill it while streaming."""
    quote = '"' if captured.database == "postgresql" else "`"
    decoded = DECODED[captured.database]
    own = {column: kind for column, kind in columns(captured.database).items() if kind in decoded}
    body = ", ".join(f"{quote}{column}{quote} {kind} NULL" for column, kind in own.items())
    statements = [f"CREATE TABLE {SCHEMA}.{name} (id int PRIMARY KEY, {body})"]
    if captured.database == "postgresql":
        statements.append(f"ALTER TABLE {SCHEMA}.{name} REPLICA IDENTITY FULL")
    else:
        statements.append("SET sql_mode = 'ALLOW_INVALID_DATES'")
    for number in range(max(map(len, decoded.values()))):
        values = {
            f"{quote}{column}{quote}": decoded[kind][number]
            for column, kind in own.items()
            if number < len(decoded[kind]) and not re.search("NaN|Infinity", decoded[kind][number])
        }
        statements.append(
            f"INSERT INTO {SCHEMA}.{name} (id, {', '.join(values)}) VALUES ({number}, {', '.join(values.values())})"
        )
    captured.run(*statements)


Cells = dict[tuple[int, str, str], Any]


def rows(run: Any, kind: str, name: str, table: Table, form: Any) -> Cells:
    """Give (id, type, column) -> value of a table; `form` is the expression around a column."""
    wanted = [each for each in table.columns if text_of(each.type)]
    quote = '"' if kind == "postgresql" else "`"
    around = form if callable(form) else lambda *_: form
    expressions = [around(kind, each.type).format(f"{quote}{each.name}{quote}") for each in wanted]
    found = run(f"SELECT id, {', '.join(expressions)} FROM {name} WHERE id < 100")
    return {
        (row[0], each.type, each.name): value
        for row in found
        for each, value in zip(wanted, row[1:], strict=True)
    }


def as_text(database: str, column_type: str) -> str:
    """Give the expression of a column as text, of either family."""
    if database == "postgresql":
        return "{}::text"
    if column_type.startswith("bit"):
        width = column_type.partition("(")[2].rstrip(")") or "1"
        return f"lpad(bin({{}}), {width}, '0')"
    if column_type == "geometry":
        return "concat(st_srid({0}), ';', lower(hex(st_aswkb({0}))))"
    if re.match(r"(\w*(binary|blob)|bytea)\b(?!\[)", column_type):
        return "concat('\\\\x', lower(hex({})))"
    return "cast({} as char character set utf8mb4)"


def understood(captured: Captured, value: str, column_type: str) -> str:
    """Have PostgreSQL read a mirrored text as its own type, and spell it."""
    kind = {"enum": "text", "enum[]": "text[]"}.get(column_type, column_type)
    with captured.session() as cursor:
        cursor.execute("SET timezone = 'UTC'")
        cursor.execute(f"SELECT %s::text::{kind}::text", [value])
        return str(cursor.fetchone()[0])


def same_json(value: Any, column_type: str) -> Any:
    """MySQL reads its own spelling of a double in JSON one unit of the last place off; 15 digits hold."""
    if column_type != "json" or value is None:
        return value
    return json.loads(value, parse_float=_rounded, parse_int=_rounded)


def _rounded(number: str) -> str:
    return f"{float(number):.14e}"


def differing(source: Cells, mirror: Cells, form: Any = None) -> Any:
    form = form or (lambda value, _: value)
    return {
        place: (value, mirror[place])
        for place, value in source.items()
        if form(value, place[1]) != form(mirror[place], place[1]) and not is_zero(value)
    }


def is_zero(value: Any) -> bool:
    """Tell MariaDB's and MySQL's dates that are none: they are null at the mirror."""
    return isinstance(value, str) and re.match(r"\d{4}-00|\d{4}-\d\d-00", value) is not None


def plain(value: Any, column_type: str) -> Any:
    """One form of texts that databases of different families give of one value."""
    if value is None:
        return None
    if column_type == "json":
        return same_json(value, column_type)
    if re.match("real|double", column_type):
        return float(value)
    if re.match("date|time", column_type):
        value = re.sub(r"(\.\d*?)0+(\D|$)", r"\1\2", value.removesuffix("+00")).removesuffix(".")
    try:
        return Decimal(value)
    except InvalidOperation:
        return value
