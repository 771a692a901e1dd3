"""The gate for new versions of a schema."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from schemas.catalog import Catalog
from schemas.compatibility import findings, undocumented

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10}
STATUS = {"type": "enum", "name": "Status", "symbols": ["open", "unknown"], "default": "unknown"}


def order(*fields: dict[str, Any]) -> dict[str, Any]:
    own = [{"name": "id", "type": "string"}, {"name": "status", "type": STATUS}]
    return {"type": "record", "name": "Order", "fields": deepcopy([*own, *fields])}


def field(name: str, type_: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def test_an_optional_field_may_be_added_and_removed() -> None:
    bigger = order(field("note", ["null", "string"], default=None))

    assert findings(order(), bigger) == []
    assert findings(bigger, order()) == []


def test_a_status_may_be_added_where_readers_have_a_default_for_it() -> None:
    newer = order()
    newer["fields"][1]["type"]["symbols"].insert(1, "closed")

    assert findings(order(), newer) == []


def test_a_status_may_not_be_added_where_readers_have_no_default() -> None:
    older = order()
    del older["fields"][1]["type"]["default"]
    newer = deepcopy(older)
    newer["fields"][1]["type"]["symbols"].append("closed")

    assert any("older version" in finding for finding in findings(older, newer))


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        (DECIMAL, {**DECIMAL, "scale": 4}, "gross|bytes"),
        (DECIMAL, {**DECIMAL, "precision": 20}, "gross|bytes"),
        (["null", DECIMAL], ["null", {**DECIMAL, "scale": 4}], "gross|bytes"),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            {"type": "long", "logicalType": "timestamp-micros"},
            "gross|long",
        ),
        ("long", {"type": "long", "logicalType": "timestamp-micros"}, "gross|long"),
        (
            {"type": "array", "items": DECIMAL},
            {"type": "array", "items": {**DECIMAL, "scale": 2}},
            "gross[]|bytes",
        ),
    ],
)
def test_numbers_keep_their_meaning(before: Any, after: Any, place: str) -> None:
    assert [
        finding
        for finding in findings(order(field("gross", before)), order(field("gross", after)))
        if place in finding
    ]


@pytest.mark.parametrize("after", ["bytes", DECIMAL])
@pytest.mark.parametrize("wrapped", [False, True], ids=["required", "optional"])
def test_text_does_not_become_bytes_or_a_number(after: Any, wrapped: bool) -> None:
    before, after = (["null", each] if wrapped else each for each in ("string", after))

    assert findings(order(field("code", before)), order(field("code", after)))
    assert findings(order(field("code", after)), order(field("code", before)))


@pytest.mark.parametrize(
    "newer",
    [
        order(field("code", "string")),
        {"type": "record", "name": "Order", "fields": [field("id", "long")]},
        order(field("note", "string", default="")) | {"name": "Another"},
    ],
    ids=["a required field more", "another type, a field less", "another name"],
)
def test_what_readers_would_stumble_over_is_found(newer: dict[str, Any]) -> None:
    assert findings(order(), newer)


def test_a_field_without_doc_is_found_wherever_it_stands() -> None:
    line = {"type": "record", "name": "Line", "fields": [field("no", "int")]}
    schema = order(field("lines", {"type": "array", "items": line}, doc="The lines."))

    assert undocumented(schema) == ["id", "status", "lines.no"]


def test_the_shipped_schemas_say_what_every_field_means() -> None:
    missing = {each.name: undocumented(each.schema) for each in Catalog.load().all()}

    assert not any(missing.values()), missing
