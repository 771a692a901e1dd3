"""How `tongbu tail` shows a decoded record to a person: one line without what is empty; `[n]` is an array of n records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.text import Text

_OPERATIONS = {"c": "create", "u": "update", "d": "delete", "r": "read", "t": "truncate"}
_STYLES = {"create": "green", "read": "dim", "snapshot": "dim", "delete": "red", "truncate": "red"}
#: Records that are one value for a person: their fields, in the order they are said.
_VALUES = (("amount", "currency"), ("value", "unit"), ("text",))


def line(record: dict[str, Any]) -> Text:
    """Give the lines of a record as `tail` prints with --json: where it stands, what it is, what it says."""
    place = (f"{record['partition']}/{record['offset']} ", "dim")
    value = record["value"]
    if record["kind"] == "control":
        return Text.assemble(place, _text("control", value["kind"], _all(value), "magenta"))
    if value is None:
        return Text.assemble(place, _text("tombstone", record["key"], "", "red"))
    if not isinstance(value, dict):
        return Text.assemble(place, str(record["key"]), " ", str(value))
    return Text.assemble(place, _content(value, record["key"]))


def _content(value: dict[str, Any], key: str | None) -> Text:
    if "meta" in value:
        return _entity(value)
    if "lane_offset" in value and "records" in value:
        return _transaction(value)
    if value.get("op") in _OPERATIONS:
        return _change(value, key)
    return _debezium(value) or Text.assemble((key or "", "cyan"), " ", _all(value))


def _debezium(value: dict[str, Any]) -> Text | None:
    """Say what else Debezium writes into a lane log: brackets of transactions, heartbeats, DDL, notifications."""
    if value.get("status") in ("BEGIN", "END"):
        count = value.get("event_count")
        return _text(value["status"], value["id"], f"changes={count}" if count else "", "blue")
    if value.get("op") == "m":
        return _text("message", value["message"]["prefix"], "", "dim")
    if value.get("ddl"):
        return _text("ddl", value["databaseName"], value["ddl"], "magenta")
    if "aggregate_type" in value:
        said = _all({**value["additional_data"], "data_collections": None})
        return _text("notification", f"{value['aggregate_type']} {value['type']}", said, "dim")
    return None


def _entity(value: dict[str, Any]) -> Text:
    """Say of an update only what changed; of everything else the whole."""
    meta = value["meta"]
    operation = meta["operation"]
    own = {name: each for name, each in value.items() if name not in ("meta", "id", "source_refs")}
    if operation == "update" and meta["changed"]:
        old = meta["previous"]
        said = " ".join(
            f"{name}={_said(own.get(name))}" + (f" (was {_said(old[name])})" if name in old else "")
            for name in meta["changed"]
        )
    else:
        said = _all(own)
    return _text(operation, value["id"], f"v{meta['version']} {said}", _STYLES.get(operation, ""))


def _transaction(value: dict[str, Any]) -> Text:
    name = value["transaction"] or (value["fill"] or {}).get("id", "")
    said = f"v{value['lane_offset']} part={value['part']}/{value['parts']} records={len(value['records'])}"
    lines = [_text(value["kind"], f"{value['source']} {name}", said, "blue")]
    for each in value["records"]:
        entity = each["topic"].split(".")[1]
        lines.append(Text.assemble("    ", (f"{entity} ", "cyan"), _content(each["value"], None)))
    for each in value["withheld"]:
        said = f"{each['id']} {each['reason']}"
        lines.append(Text.assemble("    ", _text("withheld", each["entity"], said, "red")))
    return Text("\n").join(lines)


def _change(value: dict[str, Any], key: str | None) -> Text:
    operation, source = _OPERATIONS[value["op"]], value["source"]
    before, after = value.get("before") or {}, value.get("after") or {}
    if operation == "update" and before:
        said = " ".join(
            f"{name}={_said(each)} (was {_said(before.get(name))})"
            for name, each in after.items()
            if each != before.get(name)
        )
    else:
        said = _all(after or before)
    table = f"{source.get('schema') or source['db']}.{source['table']}"
    said = " ".join(filter(None, (key, said)))
    return _text(operation, table, said, _STYLES.get(operation, ""))


def _text(operation: str, subject: str | None, said: str, style: str) -> Text:
    parts = [(operation, style), (subject or "", "cyan"), (said, "")]
    return Text(" ").join(Text(text, each) for text, each in parts if text)


def _all(value: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={_said(each)}"
        for name, each in value.items()
        if name != "kind" and each not in (None, {}, [], "")
    )


def _said(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case Decimal():
            return f"{value.normalize():f}"
        case bytes():
            return f"{len(value)} bytes"
        case dict():
            return _said_record(value)
        case [*items]:
            plain = not any(isinstance(each, dict | list) for each in items)
            return ",".join(map(str, items)) if plain else f"[{len(items)}]"
    text = str(value)
    return f'"{text}"' if " " in text else text


def _said_record(value: dict[str, Any]) -> str:
    for names in _VALUES:
        if all(name in value for name in names):
            return "_".join(_said(value[name]) for name in names)
    return "{" + _all(value) + "}"
