"""
Released schemas: a file whose bytes stand in released.json is public, and never changes again.

Records with it lie in topics and other people's programs read them; what must change becomes a new minor (or major).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import orjson

from schemas import compatibility
from schemas.catalog import Catalog, RecordSchema
from schemas.encoder import compile_encoder
from schemas.errors import DeclarationError

_SHIPPED = Path(str(files("schemas")))
_FILE = "released.json"
#: Fields of every entity, from which sink writers and subscribers know what a record is.
_OWN = ("meta", "id")


def check(folder: Path = _SHIPPED) -> list[DeclarationError]:
    """Give everything that is wrong with the schemas below a folder; raise DeclarationError for an unreadable one."""
    return [*_changed(folder), *_unfit(Catalog.load(folder))]


def release(folder: Path = _SHIPPED) -> list[str]:
    """Make every schema file public; give the new ones. Raise the first DeclarationError that `check` finds."""
    for error in check(folder):
        raise error
    known = _released(folder)
    hashes = {_name(folder, file): _hash(file) for file in sorted(folder.rglob("*.avsc"))}
    content = orjson.dumps(hashes, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (folder / _FILE).write_bytes(content)
    return [name for name in hashes if name not in known]


def _changed(folder: Path) -> Iterator[DeclarationError]:
    for name, digest in _released(folder).items():
        file = folder / name
        new = "a new type" if name.startswith("common/") else "a new minor"
        remedy = f"Restore it (git checkout), and write what is new into {new} beside it."
        if not file.exists():
            yield DeclarationError(file, 1, "is released and must stay", remedy)
        elif _hash(file) != digest:
            yield DeclarationError(file, 1, "is released and was changed", remedy)


def _unfit(catalog: Catalog) -> Iterator[DeclarationError]:
    for name, versions in catalog.versions.items():
        unusable = [_unusable(each, is_entity=name in catalog.entities) for each in versions]
        if found := [each for each in unusable if each is not None]:
            yield from found
            continue
        for newer, finding in compatibility.check_versions(versions):
            remedy = "Make it compatible (new fields optional, nothing renamed or retyped), or a new major."
            yield DeclarationError(newer.file, 1, finding, remedy)
        for version in versions:
            for field in compatibility.undocumented(version.schema):
                message = f"the field `{field}` has no doc"
                yield DeclarationError(version.file, 1, message, "Say what it means, in one line.")


def _unusable(version: RecordSchema, *, is_entity: bool) -> DeclarationError | None:
    """Give why no record can be written with a schema: lanes would stop at it."""
    try:
        compile_encoder(0, version.schema)
    except NotImplementedError as error:
        remedy = "Use string, int, long, boolean, bytes, decimal, date, timestamp-micros, enum, record, array, map, or null with one of them."
        return DeclarationError(version.file, 1, f"can't be written: {error}", remedy)
    except Exception as error:  # fastavro has many
        what = f"is no Avro record: {type(error).__name__}: {error}"
        return DeclarationError(version.file, 1, what, "Mend the schema.")
    missing = [name for name in _OWN if is_entity and name not in version.fields]
    if not missing:
        return None
    remedy = "Begin it as the other entities do: every record has them."
    return DeclarationError(version.file, 1, f"has no field `{missing[0]}`", remedy)


def _released(folder: Path) -> dict[str, str]:
    file = folder / _FILE
    hashes: dict[str, str] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return hashes


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _hash(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
