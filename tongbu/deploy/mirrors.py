"""Which tables of a source can be mirrored into a target without harm, and the declaration that says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

import psycopg
import pymysql
from ruamel.yaml import YAML

from schemas.captured import Table
from schemas.declarations import Mirror, RelationalBinding, Source
from schemas.errors import TongbuError
from sink_writers import targets
from streams.stages.mirror import text_of
from streams.stages.source_types import refusal
from tongbu.deploy import captured
from tongbu.deploy.deployment import Deployment

_LONGEST_NAME = 63
_PUBLICATION = "tongbu"
_READABLE = """
SELECT n.nspname || '.' || c.relname,
  has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
  EXISTS (SELECT FROM pg_publication_tables p
    WHERE p.pubname = %s AND p.schemaname = n.nspname AND p.tablename = c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = ANY(%s)"""


@dataclass(frozen=True)
class Refused:
    """A table that is not mirrored, why, and what would help; `sql` is for the source's DBA."""

    table: str
    why: str
    remedy: str
    sql: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """
    Tables to mirror with their names in the target, those that are mirrored already, and those refused.

    `narrowed` are columns to be left out of tables that are mirrored already with them.
    """

    tables: dict[str, str]
    known: dict[str, str]
    refused: list[Refused]
    narrowed: dict[str, list[str]]


def plan(
    subject: Deployment,
    source: str,
    patterns: list[str],
    binding: RelationalBinding,
    prefix: str = "",
    without: dict[str, list[str]] | None = None,
) -> Plan:
    """Examine the tables that match patterns of `schema.table`; raise TongbuError where none does."""
    declared, dsn = subject.sources[source], subject.environment[f"{source.upper()}_DSN"]
    there = captured.listed(source, declared, dsn)
    wanted = [name for name in there if any(fnmatchcase(name, each) for each in patterns)]
    if not wanted:
        raise TongbuError(
            f"source {source} has no table like {', '.join(patterns)}",
            f"Patterns are `schema.table` with * and ?, in quotes. It has, e.g.: {', '.join(there[:5])}.",
        )
    without = without or {}
    mirrored = [each for each in subject.mirrors_of(source) if each.binding == binding.binding]
    known = {table: name for each in mirrored for table, name in each.tables.items()}
    left_out = {table: columns for each in mirrored for table, columns in each.without.items()}
    narrowed = {
        name: more
        for name in wanted
        if name in known
        and (more := [each for each in without.get(name, ()) if each not in left_out.get(name, ())])
    }
    asked = [name for name in wanted if name not in known or name in narrowed]
    examined = [*captured.examine(source, declared, dsn, asked)]
    _check_left_out(without, wanted, examined)
    fit = dict(_fit(asked, examined, without))
    fit |= {
        each.table: each
        for each in _unreadable(
            subject, source, declared, [name for name in asked if fit[name] is None]
        )
    }
    names = {
        name: prefix + name.partition(".")[2]
        for name, refused in fit.items()
        if refused is None and name not in known
    }
    collisions = dict(_collisions(subject, binding, names, set(known.values())))
    tables = {name: called for name, called in names.items() if name not in collisions}
    refused = [each for each in fit.values() if each is not None]
    return Plan(
        tables,
        {name: known[name] for name in wanted if name in known},
        [*refused, *collisions.values()],
        {name: columns for name, columns in narrowed.items() if fit[name] is None},
    )


def check(subject: Deployment) -> None:
    """Check that mirrors name sources and relational bindings that there are; raise the first finding, with its line."""
    known = {each.value.binding: each.value for each in subject.bindings}
    for declared in subject.mirrors:
        binding = known.get(declared.value.binding)
        if declared.value.source not in subject.sources:
            remedy = f"Known: {', '.join(subject.sources)}."
            raise declared.error(("source",), f"no source `{declared.value.source}`", remedy)
        if (
            not isinstance(binding, RelationalBinding)
            or declared.value.source not in binding.sources
        ):
            raise declared.error(
                ("binding",),
                f"no relational binding `{declared.value.binding}` that reads {declared.value.source}",
                "Correct the name, or add the source to the binding.",
            )


def after(
    subject: Deployment, source: str, binding: str, found: Plan, without: dict[str, list[str]]
) -> list[Mirror]:
    """Give the mirrors of the source as they would be with a plan; `without` is of its new tables."""
    if not found.tables and not found.narrowed:
        return subject.mirrors_of(source)
    file = _file(subject, source, binding)
    others = [each.value for each in subject.mirrors if each.file != file]
    mine = _declared(subject, source, binding, found, without)
    return [*(each for each in others if each.source == source), mine]


def write(
    subject: Deployment, source: str, binding: str, found: Plan, without: dict[str, list[str]]
) -> Path:
    """Write the declaration, or add to the one that is there; `without` is of its new tables. Give the file."""
    file = _file(subject, source, binding)
    declared = _declared(subject, source, binding, found, without)
    content = declared.model_dump(exclude_defaults=True)
    text = StringIO()
    YAML().dump(content, text)
    file.parent.mkdir(parents=True, exist_ok=True)
    head = "# Tables that are mirrored as they are: source table -> its name in the target. `tongbu apply` makes it true.\n"
    file.write_text(head + text.getvalue(), encoding="utf-8")
    return file


def _file(subject: Deployment, source: str, binding: str) -> Path:
    return subject.mirrors_folder / f"{source}-to-{binding}.yaml"


def _declared(
    subject: Deployment, source: str, binding: str, found: Plan, without: dict[str, list[str]]
) -> Mirror:
    file = _file(subject, source, binding)
    before = next((each.value for each in subject.mirrors if each.file == file), None)
    left_out = {**(before.without if before else {}), **without}
    for table, columns in found.narrowed.items():
        left_out[table] = [*left_out.get(table, ()), *columns]
    return Mirror(
        mirror=f"{source}-to-{binding}",
        source=source,
        binding=binding,
        tables={**(before.tables if before else {}), **found.tables},
        without=left_out,
    )


def _check_left_out(
    without: dict[str, list[str]], wanted: list[str], examined: Iterable[Table | TongbuError]
) -> None:
    """Raise TongbuError for a column to leave out that there is not: the one that was meant would be mirrored."""
    for name, columns in without.items():
        if name not in wanted:
            raise TongbuError(
                f"--without {name}.{columns[0]}: {name} is none of the tables to be mirrored",
                f"Names are case-sensitive. They are: {', '.join(wanted)}.",
            )
    for table in examined:
        if isinstance(table, Table):
            there = [column.name for column in table.columns]
            for column in without.get(table.qualified, []):
                if column not in there:
                    raise TongbuError(
                        f"--without {table.qualified}.{column}: there is no such column",
                        f"Names are case-sensitive. It has: {', '.join(there)}.",
                    )


def _fit(
    names: list[str], examined: Iterable[Table | TongbuError], without: dict[str, list[str]]
) -> Iterator[tuple[str, Refused | None]]:
    """Give what is against each table itself: no key, or columns that can't be had without loss."""
    for name, table in zip(names, examined, strict=True):
        if isinstance(table, TongbuError):
            yield name, Refused(name, table.message, table.remedy)
            continue
        left_out = without.get(name, [])
        if table.keyless or set(table.key) & set(left_out):
            why = "has no primary key (or it is left out): at a mirror its rows could not be told apart"
            yield name, Refused(name, why, "Ask its DBA for a primary key.")
            continue
        lossy = [
            f"`{each.name}` is {each.type}: {refusal(each.type) or 'it is not captured'}"
            for each in table.columns
            if each.name not in left_out and text_of(each.type) is None
        ]
        columns = [each.name for each in table.columns if text_of(each.type) is None]
        remedy = " ".join(f"--without '{name}.{each}'" for each in columns)
        yield name, Refused(name, "; ".join(lossy), f"Leave out: {remedy}") if lossy else None


def _unreadable(
    subject: Deployment, source: str, declared: Source, names: list[str]
) -> Iterator[Refused]:
    """Give the tables that the capture user may not read, or that are not published."""
    dsn = subject.environment[f"{source.upper()}_CAPTURE_DSN"]
    if declared.database == "postgresql":
        yield from _unreadable_in_postgresql(source, dsn, names)
        return
    user = captured.mysql_arguments(dsn)["user"]
    visible = set(captured.listed(source, declared, dsn))
    for name in names:
        if name not in visible:
            schema, _, table = name.partition(".")
            sql = f"GRANT SELECT ON `{schema}`.`{table}` TO '{user}';"
            yield Refused(name, f"user {user} may not read it", "For its DBA, below.", (sql,))


def _unreadable_in_postgresql(source: str, dsn: str, names: list[str]) -> Iterator[Refused]:
    try:
        with psycopg.connect(dsn, connect_timeout=5) as pg:
            rows = pg.execute(_READABLE, [_PUBLICATION, names]).fetchall()
            user = pg.info.user
    except captured.IN_VAIN as error:
        raise captured.unanswered(source, error) from error
    for name, usable, readable, published in rows:
        schema, _, table = name.partition(".")
        full = f'"{schema}"."{table}"'
        sql = []
        if not usable:
            sql.append(f'GRANT USAGE ON SCHEMA "{schema}" TO "{user}";')
        if not readable:
            sql.append(f'GRANT SELECT ON {full} TO "{user}";')
        if not published:
            sql.append(f"ALTER PUBLICATION {_PUBLICATION} ADD TABLE {full};")
        if sql:
            why = " and ".join(
                [f"user {user} may not read it"] * (not (usable and readable))
                + [f"publication {_PUBLICATION} does not have it"] * (not published)
            )
            yield Refused(name, why, "For its DBA, below.", tuple(sql))


def _collisions(
    subject: Deployment, binding: RelationalBinding, names: dict[str, str], mirrored: set[str]
) -> Iterator[tuple[str, Refused]]:
    """Give the tables whose name in the target is taken."""
    taken = {
        each.name: f"table of {each.entity}" for each in targets.tables(binding, subject.catalog)
    }
    taken |= dict.fromkeys(mirrored, "the mirror of another table")
    try:
        there = targets.existing(binding)
    except (psycopg.Error, pymysql.Error) as error:
        raise targets.dialect(binding).explain(error) from None
    for table, name in names.items():
        what = taken.get(name) or ("there already, and not ours" if name in there else None)
        if len(name.encode()) > _LONGEST_NAME:
            what = f"longer than {_LONGEST_NAME} bytes"
        if what:
            yield (
                table,
                Refused(
                    table,
                    f"in {binding.binding} the name `{name}` is {what}",
                    "Choose other names by --prefix, or write the name into the declaration.",
                ),
            )
        taken[name] = f"the mirror of {table}"
