"""What stands in a row for a large value that did not change, by type: as PostgreSQL's connector sends it (tests/capture/test_toasted.py)."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.captured import Column, Table
from streams.errors import RecordError
from streams.records import Change, Position
from streams.stages.image import Placeholders, resolve, resolve_broken
from streams.stages.source_types import stopping

PLACEHOLDER = "__gone__"
_BYTES = [95, 95, 103, 111, 110, 101, 95, 95]
#: Type -> what is sent.
SENT: dict[str, Any] = {
    "text": "__gone__",
    "numeric(12,2)": "__gone__",
    "jsonb": "__gone__",
    "tsvector": "__gone__",
    "bytea": "X19nb25lX18=",
    "hstore": '{"__gone__":"__gone__"}',
    "text[]": ["__gone__"],
    "character varying(20)[]": ["__gone__"],
    "character(5)[]": ["__gone__"],
    "json[]": ["__gone__"],
    "jsonb[]": ["__gone__"],
    "bytea[]": ["X19nb25lX18="],
    "integer[]": _BYTES,
    "bigint[]": _BYTES,
    "date[]": _BYTES,
    "uuid[]": ["2c66fe9d-a9ee-36b9-b83a-5e4a8d39e7b2"],
}


class Store(dict[bytes, Any]):
    def put(self, key: bytes, value: Any) -> None:
        self[key] = value


def table(kind: str) -> Table:
    columns = (Column(name="id", type="integer"), Column(name="v", type=kind))
    return Table(schema="s", name="t", columns=columns, key=("id",))


def change(**row: Any) -> Change:
    return Change("s.t", "u", None, row, None, Position((1, 0), 0), None)


#: The table before it had the column, as the captured schema knows it until the catalog is looked at again.
EARLIER = Table(schema="s", name="t", columns=(Column(name="id", type="integer"),), key=("id",))


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("kind", SENT)
def test_an_unsent_value_is_filled_in_and_never_taken_for_data(kind: str, is_known: bool) -> None:
    of, store = table(kind) if is_known else EARLIER, Store()
    placeholders = Placeholders(of, PLACEHOLDER)
    unsent = change(id=1, v=SENT[kind], a=2)

    with pytest.raises(RecordError, match="unchanged column `v` of a row that was never seen"):
        resolve(unsent, of, placeholders, store)
    broken = resolve_broken(unsent, of, placeholders, "no-image", store)
    assert broken is not None
    assert broken.after is not None
    assert "v" not in broken.after
    resolve(change(id=1, v="what there was", a=1), of, placeholders, store)
    (found,) = resolve(unsent, of, placeholders, store)

    assert found.after == {"id": 1, "v": "what there was", "a": 2}


@pytest.mark.parametrize("kind", SENT)
def test_an_unsent_value_of_a_column_that_has_another_name_by_now_is_not_taken_for_data(
    kind: str,
) -> None:
    of, store = table(kind), Store()
    placeholders = Placeholders(of, PLACEHOLDER)
    resolve(change(id=1, v="what there was"), of, placeholders, store)

    with pytest.raises(RecordError, match="unchanged column `w` of a row that was never seen"):
        resolve(change(id=1, w=SENT[kind]), of, placeholders, store)


@pytest.mark.parametrize("value", [None, [], ["x"], [95], "", {}])
@pytest.mark.parametrize("kind", SENT)
def test_what_is_no_placeholder_is_a_value(kind: str, value: Any) -> None:
    of, store = table(kind), Store()
    placeholders = Placeholders(of, PLACEHOLDER)
    resolve(change(id=1, v="before"), of, placeholders, store)

    (found,) = resolve(change(id=1, v=value), of, placeholders, store)

    assert found.after == {"id": 1, "v": value}


@pytest.mark.parametrize(
    ("kind", "domain", "whole", "stops"),
    [
        ("numeric[]", False, False, True),
        ("numeric(10,2)[]", False, True, False),
        ("timestamp(3) without time zone[]", False, False, True),
        ("public.citext[]", False, False, True),
        ("enum[]", False, False, True),
        ("text[]", False, False, False),
        ("text[]", True, False, True),
        ("text[]", True, True, False),
        ("text", True, False, False),
        ("bit(100)", False, False, True),
        ("bit(10)", False, False, False),
        ("bit varying", False, False, True),
        ("bit(1)[]", False, True, True),
        ("int4multirange[]", False, False, False),
        ("integer", False, False, False),
    ],
)
def test_types_that_would_stop_the_connector_are_known(
    kind: str, domain: bool, whole: bool, stops: bool
) -> None:
    assert bool(stopping(kind, domain=domain, whole=whole)) is stops
