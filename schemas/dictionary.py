"""The data dictionary: what every field of every record is called and means, written from the schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.catalog import Catalog, RecordSchema
from schemas.errors import DeclarationError

#: It is part of the checkout, not of the package.
FILE = Path(__file__).parent.parent / "docs" / "dictionary.md"

_SHARED = "canonical.common."
_HEAD = """\
# Data dictionary

Written by `python -m schemas dictionary`; don't edit. [subscribers.md](subscribers.md) tells how to read the topics.
`null` in a type: the field may be without value. `x[].y`: field `y` of each record in the array `x`.
"""
_TABLE = "| field | type | label | meaning |\n|---|---|---|---|"


def render(catalog: Catalog) -> str:
    """Give the dictionary of the newest schemas, as Markdown."""
    shared = {
        type_["name"]: type_ for schema in catalog.all() for type_ in _shared_types(schema.schema)
    }
    sections = [_section(schema) for schema in catalog.all()]
    return "\n".join(
        [_HEAD, *sections, *(_shared_section(shared[name]) for name in sorted(shared))]
    )


def check(catalog: Catalog, file: Path = FILE) -> list[DeclarationError]:
    """Give the finding that a dictionary is not that of the schemas; none: it is fresh."""
    is_fresh = file.exists() and file.read_text(encoding="utf-8") == render(catalog)
    remedy = "Write it again: python -m schemas dictionary"
    return [] if is_fresh else [DeclarationError(file, 1, "is not what the schemas say", remedy)]


def _section(schema: RecordSchema) -> str:
    title = " ".join(filter(None, (schema.name, schema.schema.get("label_zh"))))
    head = f"## {title}\n\n{schema.schema['doc']} Topic `{schema.topic}`, version {schema.major}.{schema.minor}."
    return "\n".join([head, "", _TABLE, *_rows(schema.schema), ""])


def _shared_section(type_: dict[str, Any]) -> str:
    name = type_["name"]
    head = f"## {name.removeprefix(_SHARED)}\n\n{type_['doc']} Shared type `{name}`."
    return "\n".join([head, "", _TABLE, *_rows(type_), ""])


def _shared_types(node: Any) -> Iterator[dict[str, Any]]:
    """Find the shared types that a schema defines where it first mentions them."""
    if isinstance(node, list):
        for each in node:
            yield from _shared_types(each)
    elif isinstance(node, dict):
        if _is_shared(node.get("name", "")):
            yield node
        for key in ("type", "items", "values", "fields"):
            yield from _shared_types(node.get(key))


def _is_shared(name: str) -> bool:
    return name.startswith(_SHARED)


def _rows(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for field in record["fields"]:
        name = f"{prefix}{field['name']}"
        label, meaning = field.get("label_zh", ""), _cell(field.get("doc", ""))
        yield f"| `{name}` | {_type(field['type'])} | {label} | {meaning} |"
        inner, suffix = _own_record(field["type"])
        if inner:
            yield from _rows(inner, f"{name}{suffix}.")


def _own_record(type_: Any) -> tuple[dict[str, Any] | None, str]:
    """Give the record that a field's type defines in place (in an array: with `[]`); shared ones stand apart."""
    if isinstance(type_, list):
        return next((found for each in type_ if (found := _own_record(each))[0]), (None, ""))
    if not isinstance(type_, dict) or _is_shared(type_.get("name", "")):
        return None, ""
    if type_["type"] == "array":
        return _own_record(type_["items"])[0], "[]"
    return (type_, "") if type_["type"] == "record" else (None, "")


def _type(type_: Any) -> str:
    if isinstance(type_, list):
        return ", ".join(_type(each) for each in [*type_[1:], type_[0]])
    if isinstance(type_, str):
        return _link(type_) if _is_shared(type_) else type_
    if _is_shared(type_.get("name", "")):
        return _link(type_["name"])
    match type_["type"]:
        case "array":
            return f"array of {_type(type_['items'])}"
        case "map":
            return f"map of {_type(type_['values'])}"
        case "enum":
            return "one of " + ", ".join(f"`{symbol}`" for symbol in type_["symbols"])
        case "record":
            return "record"
    return _scalar(type_)


def _scalar(type_: dict[str, Any]) -> str:
    if type_.get("logicalType") == "decimal":
        return f"decimal({type_['precision']}, {type_['scale']})"
    return str(type_.get("logicalType", type_["type"]))


def _link(name: str) -> str:
    short = name.removeprefix(_SHARED)
    return f"[{short}](#{short.lower()})"


def _cell(text: str) -> str:
    """Keep a text in its cell, and its angle brackets visible."""
    return text.replace("|", "\\|").replace("<", "&lt;")
