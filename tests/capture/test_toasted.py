"""Large values that an UPDATE leaves as they are (TOAST), of every type: the row is complete, or its type is refused before it stops capture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest
from capturing import SCHEMA, SHIPPED, Captured
from mirroring import Mirrored, Target
from test_operations import PLACEHOLDER, Watched
from type_table import DECODED
from types_on_servers import comparable, live_table, selected

from schemas.captured import Table
from schemas.errors import TongbuError
from streams.stages.image import Placeholders
from streams.stages.mirror import text_of
from streams.stages.source_types import reader
from tongbu.deploy import deployment

_TEXT = "repeat('长 x', 3000)"
_DIGITS = "repeat('7', 9000)::numeric"
#: Type -> SQL of a value that does not fit into its row, of types that capture has a placeholder for.
LARGE = {
    "text": _TEXT,
    "varchar": _TEXT,
    "varchar(9000)": _TEXT,
    "character(9000)": _TEXT,
    "citext": _TEXT,
    "long_text": _TEXT,
    "bytea": "decode(repeat('00ff80', 3000), 'hex')",
    "long_bytes": "decode(repeat('00ff80', 3000), 'hex')",
    "json": f"to_json({_TEXT})",
    "jsonb": f"to_jsonb({_TEXT})",
    "xml": f"('<a>' || {_TEXT} || '</a>')::xml",
    "hstore": f"hstore('k', {_TEXT})",
    "long_pairs": f"hstore('k', {_TEXT})",
    "numeric": _DIGITS,
    "numrange": f"numrange({_DIGITS}, NULL)",
    "tsvector": "(SELECT to_tsvector('simple', string_agg('w' || n, ' ')) FROM generate_series(1, 2000) n)",
    "ltree": "(SELECT string_agg('w' || n, '.')::ltree FROM generate_series(1, 2000) n)",
}
#: Arrays that the matrix of types does not have, with an array of few elements.
_MORE = {
    "varchar(20)[]": "'{a,b}'",
    "character(5)[]": "'{a}'",
    "json[]": "'{1}'",
    "jsonb[]": "'{1}'",
}
ARRAYS = {
    kind: own[0] for kind, own in DECODED["postgresql"].items() if kind.endswith("[]")
} | _MORE
PLACED = {"integer[]", "bigint[]", "date[]", "text[]", "uuid[]", "bytea[]", *_MORE}
#: Type -> SQL of a large value, of types whose connector would stop.
STOPPING = {
    "bit(40000)": "repeat('01', 20000)::bit(40000)",
    "bit varying": "repeat('01', 20000)::varbit",
    "many_texts": "array_fill('x'::text, ARRAY[2000])",
    **{f"{each}[]": f"array_fill({sql}, ARRAY[2000])" for each, sql in {
        "smallint": "7::smallint", "real": "1.5::real", "numeric(10,2)": "1.5", "timestamptz": "now()", "time": "time '01:02'",
        "inet": "inet '10.0.0.1'", "int4range": "int4range(1, 5)", "citext": "citext 'x'", "hstore": "hstore('k', 'v')",
    }.items()},
}  # fmt: skip
DOMAINS = (
    f"CREATE DOMAIN {SCHEMA}.long_text AS text",
    f"CREATE DOMAIN {SCHEMA}.long_bytes AS bytea",
    f"CREATE DOMAIN {SCHEMA}.long_pairs AS hstore",
    f"CREATE DOMAIN {SCHEMA}.many_texts AS text[]",
)


def _many(kind: str) -> str:
    """Give SQL of an array of thousands of the elements that a small one has."""
    own = f"unnest({ARRAYS[kind]}::{kind})"
    return f"(SELECT array_agg(each) FROM generate_series(1, 2000), {own} each)"


def _make(captured: Captured, name: str, large: dict[str, str], *then: str) -> dict[str, str]:
    """Make a table with a column per type; give column -> SQL of its value."""
    if not captured.select("SELECT 1 FROM pg_type WHERE typname = 'long_text'"):
        captured.run(*DOMAINS)
    own = {f"v{number}": kind for number, kind in enumerate(large)}
    captured.run(
        f"CREATE TABLE {SCHEMA}.{name} (id int PRIMARY KEY, a int, {', '.join(f'{column} {kind}' for column, kind in own.items())})",
        f"ALTER TABLE {SCHEMA}.{name} {', '.join(f'ALTER {column} SET STORAGE EXTERNAL' for column in own)}",
        *then,
    )
    return {column: large[kind] for column, kind in own.items()}


def _change(watched: Watched, values: Iterable[str]) -> None:
    watched.captured.run(
        f"INSERT INTO {watched.name} VALUES (1, 1, {', '.join(values)})",
        f"UPDATE {watched.name} SET a = 2",
    )


def _as_selected(watched: Watched) -> bool:
    """Tell that the image, read as its types say, is what SELECT returns."""
    (image,) = watched.store.values()
    oracle = selected(watched.captured, watched.table, "true")
    differing = [
        column.type
        for column in watched.table.columns
        if (read := reader(column.type)) is not None
        and (column.name, 1) in oracle
        and comparable(read(image[column.name]), column.type, "postgresql")
        != comparable(oracle[column.name, 1], column.type, "postgresql")
    ]
    assert differing == []
    return image["a"] == 2


def test_large_values_that_did_not_change_are_filled_in_whatever_their_type(
    postgresql: Captured, tmp_path: Path
) -> None:
    values = _make(postgresql, "unsent", LARGE | {kind: _many(kind) for kind in sorted(PLACED)})
    watched = Watched(postgresql, "unsent", "")
    since = watched.since
    target = Target("postgresql", postgresql.dsn)
    mirrored = Mirrored(tmp_path, postgresql, [watched.table], target)
    _change(watched, values.values())
    found = watched.follow()

    sent = found[1].changes[0].after or {}
    assert set(Placeholders(watched.table, PLACEHOLDER).unsent(sent)) == values.keys()
    assert _as_selected(watched)
    mirrored.run(postgresql.until_now(since))
    mirrored.close()
    every = ", ".join(f"{column.name}::text" for column in watched.table.columns)
    assert target.run(f"SELECT {every} FROM {target.table('unsent')}") == postgresql.select(
        f"SELECT {every} FROM {watched.name}"
    )
    assert all(text_of(column.type) for column in watched.table.columns)
    target.close()


STOPPED = STOPPING | {kind: _many(kind) for kind in ARRAYS.keys() - PLACED}


@pytest.mark.parametrize("kind", sorted(STOPPED))
def test_a_type_whose_large_values_stop_capture_when_they_do_not_change_is_refused_with_what_mends_it(
    postgresql: Captured, kind: str
) -> None:
    name = f"stops{sorted(STOPPED).index(kind)}"
    _make(postgresql, name, {kind: STOPPED[kind]})

    with pytest.raises(TongbuError, match="would stop the connector where an UPDATE") as refused:
        live_table(postgresql, name)
    assert f'ALTER TABLE "{SCHEMA}"."{name}" REPLICA IDENTITY FULL' in refused.value.remedy

    postgresql.run(f"ALTER TABLE {SCHEMA}.{name} REPLICA IDENTITY FULL")
    watched = Watched(postgresql, name, "")
    _change(watched, [STOPPED[kind]])
    made, updated = [each.changes[0].after or {} for each in watched.follow()]
    assert updated == made | {"a": 2}
    assert updated["v0"] is not None


def test_replica_identity_full_is_that_of_every_partition(postgresql: Captured) -> None:
    name, part = f"{SCHEMA}.whole", f"{SCHEMA}.whole_part"
    postgresql.run(
        f"CREATE TABLE {name} (id int PRIMARY KEY, v numeric[]) PARTITION BY RANGE (id)",
        f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES FROM (0) TO (9)",
        f"ALTER TABLE {name} REPLICA IDENTITY FULL",
    )
    with pytest.raises(TongbuError, match="would stop the connector"):
        live_table(postgresql, "whole")
    postgresql.run(f"ALTER TABLE {part} REPLICA IDENTITY FULL")

    assert _names(live_table(postgresql, "whole")) == ["id", "v"]


def test_a_column_that_the_connector_leaves_out_stops_nothing(
    postgresql: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = postgresql.settings()["column.exclude.list"]
    file = tmp_path / "sources" / SHIPPED["postgresql"]
    file.parent.mkdir()
    file.write_bytes(orjson.dumps({"column.exclude.list": f"other.t.c, {listed}"}))
    monkeypatch.setattr(deployment, "CONNECTORS", tmp_path)
    name = f"{SCHEMA}.partly"
    postgresql.run(
        f"CREATE TABLE {name} (id int PRIMARY KEY, a int, left_out numeric[])",
        f"ALTER TABLE {name} ALTER left_out SET STORAGE EXTERNAL",
    )
    watched = Watched(postgresql, "partly", "")
    _change(watched, [_many("numeric[]")])
    found = watched.follow()

    assert _names(watched.table) == ["id", "a"]
    assert found[1].changes[0].after == {"id": 1, "a": 2}
    assert watched.equal_to_select()


def test_an_array_of_bits_stops_capture_at_every_row_and_is_refused(postgresql: Captured) -> None:
    postgresql.run(
        f"CREATE TABLE {SCHEMA}.bits (id int PRIMARY KEY, v bit(3)[])",
        f"ALTER TABLE {SCHEMA}.bits REPLICA IDENTITY FULL",
    )

    with pytest.raises(TongbuError, match="would stop the connector at every row"):
        live_table(postgresql, "bits")


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]
