"""
Declarations: sources, mappings, rules and bindings, as people write them in YAML.

Loading is strict: an unknown key, a wrong type or a missing value is refused with file and line. What
needs the catalog or the live source to be judged is checked by `tongbu plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from schemas.errors import DeclarationError
from schemas.expressions import FORMS, Each, Expression, Lookup, Part, Strict

T = TypeVar("T")


class Mapping(Strict):
    """How rows of one source become records of one entity."""

    mapping: str
    version: int = Field(ge=1)
    source: str
    entity: str
    major: int = Field(ge=1)
    from_: str = Field(alias="from")
    where: dict[str, str | int | bool | None] = {}
    id: str | list[str]
    parts: dict[str, Part] = {}
    lookups: dict[str, Lookup] = {}
    fields: dict[str, Expression]

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns of the natural key."""
        return (self.id,) if isinstance(self.id, str) else tuple(self.id)

    @property
    def tables(self) -> tuple[str, ...]:
        """Every table that the mapping reads: root, parts, lookups."""
        others = [part.from_ for part in self.parts.values()]
        others += [lookup.from_ for lookup in self.lookups.values()]
        return tuple(dict.fromkeys([self.from_, *others]))

    @property
    def arrays(self) -> dict[str, Each]:
        """The array fields."""
        return {name: each for name, each in self.fields.items() if isinstance(each, Each)}


class DecimalInput(Strict):
    """A decimal of the mapped record, by path, e.g. `gross.amount`."""

    decimal: str


class TextInput(Strict):
    """A text of the mapped record, by path."""

    text: str


class LookupInput(Strict):
    """A text column of one of the mapping's lookups: `alias.column`."""

    lookup: str


class Rule(Strict):
    """A decision table that sets fields of an entity; `otherwise` holds where an input is missing or ill-typed."""

    rule: str
    version: int = Field(ge=1)
    entity: str
    source: str
    table: str
    inputs: dict[str, DecimalInput | TextInput | LookupInput] = Field(min_length=1)
    sets: list[str] = Field(min_length=1)
    otherwise: dict[str, str]
    #: The decision table itself (JDM), read from the file that `table` names.
    decision: dict[str, Any] = {}


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a folder of zones is none
        raise PydanticCustomError("zone", "there is no such time zone") from error
    return name


class Source(Strict):
    """A captured database: its system, its kind of database, its partition of the transactions topic."""

    system: str
    database: Literal["postgresql", "mariadb", "mysql"]
    partition: int = Field(ge=0)
    zone: Annotated[str, AfterValidator(_known_zone)]
    connector: str


class Sources(Strict):
    """All sources, by name."""

    sources: dict[str, Source]


class ChildTable(Strict):
    """Where an array of records goes: its table, and the field that tells its rows apart within the parent."""

    table: str
    key: str
    columns: dict[str, str] = {}


class EntityBinding(Strict):
    """
    What of an entity a sink gets.

    `references` makes foreign keys: field (`lines.product_id` for a child's) -> entity of the same binding.
    `columns` renames: column as it would be called (`gross_amount`, `id`, `version`) -> column as an existing table
    calls it. `version: null`: the table has no place for the version, so it stands in `tongbu_fence`.
    `where` routes: field (`gross.currency` for an inner one) -> the values, as text, of which the target has records.
    """

    major: int = Field(default=1, ge=1)
    table: str | None = None
    fields: list[str] | None = None
    children: dict[str, ChildTable] = {}
    references: dict[str, str] = {}
    columns: dict[str, str | None] = {}
    where: dict[str, list[str]] = {}


class RelationalBinding(Strict):
    """
    Entities into tables of a database.

    `reads: entities` reads each entity's own topic, partition by partition: no transactions, so no references.
    """

    binding: str
    kind: Literal["postgresql", "mariadb", "mysql"]
    dsn: str
    schema_: str = Field(default="canonical", alias="schema")
    sources: list[str] = Field(min_length=1)
    entities: dict[str, EntityBinding] = {}
    reads: Literal["transactions", "entities"] = "transactions"


class Mirror(Strict):
    """
    Tables of a source that a relational binding gets as they are.

    `tables` gives each its name in the target, `without` the columns of it that are left out.
    """

    mirror: str
    source: str
    binding: str
    tables: dict[str, str] = Field(min_length=1)
    without: dict[str, list[str]] = {}


class WebhookBinding(Strict):
    """Edges of entities to an HTTP endpoint, as Standard Webhooks; `ledger` is a PostgreSQL database."""

    binding: str
    kind: Literal["webhook"]
    url: str
    secret: str
    ledger: str
    sources: list[str] = Field(min_length=1)
    entities: dict[str, EntityBinding] = Field(min_length=1)
    on: dict[str, list[str]] = Field(min_length=1)


Binding = RelationalBinding | WebhookBinding


@dataclass(frozen=True)
class Declared(Generic[T]):
    """A declaration with the place it was written at, for errors that name the line."""

    value: T
    file: Path
    node: Any

    def line(self, *path: str | int) -> int:
        """Give the line (from 1) of a value, by its keys from the top; the nearest one that exists."""
        node, line = self.node, 1
        for key in path:
            if isinstance(node, CommentedMap) and key in node:
                line = node.lc.key(key)[0] + 1
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line = node.lc.item(key)[0] + 1
            else:
                continue
            node = node[key]
        return line

    def error(
        self, path: tuple[str | int, ...], message: str, remedy: str = ""
    ) -> DeclarationError:
        """Make the error for a value of this declaration."""
        return DeclarationError(self.file, self.line(*path), message, remedy)


def load_sources(file: Path | None = None) -> dict[str, Source]:
    """Read streams/sources.yaml."""
    shipped = Path(str(files("streams"))) / "sources.yaml"
    return _load(file or shipped, TypeAdapter(Sources)).value.sources


def load_mappings(folder: Path) -> list[Declared[Mapping]]:
    """Read every mapping below a folder; names and (source, entity, major) must be unique."""
    loaded = [_load(file, TypeAdapter(Mapping)) for file in _files(folder, "**/")]
    _refuse_twice(loaded, "mapping", lambda mapping: mapping.mapping)
    _refuse_twice(
        loaded, "entity", lambda mapping: f"{mapping.source}/{mapping.entity}/{mapping.major}"
    )
    return loaded


def load_rules(folder: Path) -> list[Declared[Rule]]:
    """Read every rule below a folder, each with its decision table."""
    loaded = [_with_table(_load(file, TypeAdapter(Rule))) for file in _files(folder, "**/")]
    _refuse_twice(loaded, "rule", lambda rule: rule.rule)
    return loaded


def load_bindings(folder: Path) -> list[Declared[Binding]]:
    """Read every binding of a folder."""
    adapter: TypeAdapter[Binding] = TypeAdapter(
        Annotated[RelationalBinding | WebhookBinding, Field(discriminator="kind")]
    )
    loaded = [_load(file, adapter) for file in _files(folder)]
    _refuse_twice(loaded, "binding", lambda binding: binding.binding)
    return loaded


def load_mirrors(folder: Path) -> list[Declared[Mirror]]:
    """Read every mirror of a folder; a binding may have a table once, and no two with one name."""
    loaded = [_load(file, TypeAdapter(Mirror)) for file in _files(folder)]
    _refuse_twice(loaded, "mirror", lambda mirror: mirror.mirror)
    names: dict[tuple[str, str], str] = {}
    tables: dict[tuple[str, str], Path] = {}
    for declared in loaded:
        binding = declared.value.binding
        for table, name in declared.value.tables.items():
            # A target knows its mirrors by the table alone, so it can't have one of two sources either.
            if first := tables.get((binding, table)):
                message = f"{table} is mirrored to {binding} in {first} already"
                remedy = "Keep one; that of another source needs a binding of its own."
                raise declared.error(("tables", table), message, remedy)
            tables[binding, table] = declared.file
            other = names.setdefault((binding, name), table)
            if other != table:
                raise declared.error(
                    ("tables", table),
                    f"`{name}` is the mirror of {other} already",
                    "Give it another name.",
                )
    return loaded


def to_bundle(declared: Declared[Mapping] | Declared[Rule]) -> dict[str, Any]:
    """Give a declaration as it travels in a lane log."""
    plain = declared.value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"file": f"{declared.file.parent.name}/{declared.file.name}", "declaration": plain}


def mapping_from_bundle(bundled: dict[str, Any]) -> Mapping:
    """Read a mapping back from a lane log."""
    return Mapping.model_validate(bundled["declaration"])


def rule_from_bundle(bundled: dict[str, Any]) -> Rule:
    """Read a rule back from a lane log."""
    return Rule.model_validate(bundled["declaration"])


class _NotAsWrittenError(MarkedYAMLError):
    """A number that YAML reads as another text than it is written."""


class _Constructor(RoundTripConstructor):
    """Refuses numbers that would lose something: a code such as 01 or 1.10 is none, and has to be quoted."""

    def construct_yaml_int(self, node: Any) -> Any:
        """Give a whole number."""
        return _as_written(super().construct_yaml_int(node), node)

    def construct_yaml_float(self, node: Any) -> Any:
        """Give another number."""
        return _as_written(super().construct_yaml_float(node), node)


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_yaml_float)


def _as_written(value: Any, node: Any) -> Any:
    if str(value) != node.value:
        message = f"`{node.value}` would be read as {value}"
        raise _NotAsWrittenError(problem=message, problem_mark=node.start_mark)
    return value


def _files(folder: Path, below: str = "") -> list[Path]:
    """Give the declarations of a folder; refuse what only looks like one, for nobody would miss it."""
    for file in sorted(folder.glob(f"{below}*.yml")):
        raise DeclarationError(file, 1, "is not read", "Rename it: declarations end in `.yaml`.")
    return sorted(folder.glob(f"{below}*.yaml"))


def _load(file: Path, adapter: TypeAdapter[T]) -> Declared[T]:
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.load(text)
    except FileNotFoundError as error:
        raise DeclarationError(
            file, 1, "is not there", "Give the path of an existing file."
        ) from error
    except OSError as error:
        raise DeclarationError(
            file, 1, f"can't be read: {error.strerror}", "It must be a file that you may read."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DeclarationError(file, line, "is not UTF-8", "Save it as UTF-8.") from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DeclarationError(
            file, line, f"is not YAML: it has a character U+{error.character:04X}", "Remove it."
        ) from error
    except _NotAsWrittenError as error:
        line = error.problem_mark.line + 1
        raise DeclarationError(file, line, error.problem, "Quote it.") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DeclarationError(
            file, line, f"is not YAML: {error.problem}", "Mend the line."
        ) from error
    try:
        return Declared(adapter.validate_python(node), file, node)
    except ValidationError as error:
        raise _first(error, Declared(None, file, node)) from error


def _first(error: ValidationError, declared: Declared[None]) -> DeclarationError:
    """Turn the most telling of pydantic's findings into an error: a misspelt key makes a missing one, too."""
    findings = error.errors(include_url=False)
    found = min(findings, key=lambda each: each["type"] != "extra_forbidden")
    path = _written(declared.node, tuple(found["loc"]))
    kind = found["type"]
    if kind.startswith("union_tag"):
        path = (*path, found["ctx"]["discriminator"].strip("'"))
    name = path[-1] if path else declared.file.name
    if kind == "extra_forbidden":
        return declared.error(path, f"unknown key `{name}`", "Remove it, or correct its spelling.")
    if kind in ("missing", "union_tag_not_found"):
        return declared.error(path, f"the key `{name}` is missing", "Add it.")
    return declared.error(path, f"`{name}`: {found['msg']}", "Correct the value.")


def _written(
    node: Any, path: tuple[str | int, ...], is_tagged: bool = False
) -> tuple[str | int, ...]:
    """Give the path of a finding as the file has it: pydantic puts the form of an expression in front of its keys."""
    if not path:
        return ()
    key, rest = path[0], path[1:]
    is_map = isinstance(node, CommentedMap)
    if key in FORMS and not is_tagged and is_map and rest and rest[0] in node:
        return _written(node, rest, is_tagged=True)
    is_there = (is_map and key in node) or (
        isinstance(node, CommentedSeq) and key in range(len(node))
    )
    return (key, *_written(node[key] if is_there else node, rest))


def _with_table(declared: Declared[Rule]) -> Declared[Rule]:
    file = declared.file.parent / declared.value.table
    try:
        decision = orjson.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise declared.error(
            ("table",), f"{file.name} is not there", "Name the JDM file."
        ) from error
    except OSError as error:
        raise declared.error(
            ("table",), f"{file.name} can't be read: {error.strerror}", "Name a JDM file that can."
        ) from error
    except orjson.JSONDecodeError as error:
        raise DeclarationError(
            file, error.lineno, f"is not JSON: {error.msg}", "Mend the file."
        ) from error
    return Declared(
        declared.value.model_copy(update={"decision": decision}), declared.file, declared.node
    )


def _refuse_twice(loaded: list[Declared[T]], key: str, name: Callable[[T], str]) -> None:
    seen: dict[str, Path] = {}
    for declared in loaded:
        called = name(declared.value)
        if called in seen:
            raise declared.error(
                (key,), f"`{called}` is declared in {seen[called]} already", "Keep one."
            )
        seen[called] = declared.file
