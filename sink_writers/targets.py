"""Target tables as code: what is missing on a live target, making it, and reading tables back."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
import pymysql

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import Binding, RelationalBinding
from schemas.errors import TongbuError
from sink_writers import fills, mirrors
from sink_writers.dialects.mariadb import Mariadb
from sink_writers.dialects.mysql import Mysql
from sink_writers.dialects.postgresql import Ledger, Postgresql
from sink_writers.fills import Fill
from sink_writers.mirrors import MirrorTable
from sink_writers.tables import TargetTable

#: The database of each kind of binding.
_DIALECTS: dict[str, Any] = {
    "postgresql": Postgresql,
    "mariadb": Mariadb,
    "mysql": Mysql,
    "webhook": Ledger,
}


def dialect(binding: Binding) -> Any:
    """Give the database side of a binding."""
    return _DIALECTS[binding.kind](binding)


@contextmanager
def opened(binding: Binding) -> Iterator[tuple[Any, Any]]:
    """Give the database side of a binding and a cursor on the live target, in autocommit mode."""
    target = dialect(binding)
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        yield target, cursor


def tables(binding: Binding, catalog: Catalog) -> list[TargetTable]:
    """Give the target tables of a binding, parents before children; none for effects."""
    found: list[TargetTable] = dialect(binding).tables(catalog)
    return found


def plan(binding: Binding, catalog: Catalog) -> list[str]:
    """
    Give the statements that the live target still needs, in order; empty when it is up to date.

    Only additions. Raise TongbuError, with the statement to run, where a column has another type; TryLater
    where the target does not answer.
    """
    target = dialect(binding)
    found = target.tables(catalog)
    with closing(target.connect()) as connection:
        live = target.live(connection)
        statements = _own(target, connection, live)
        _check(target, connection, [table for table in found if table.name in live])
        for table in found:
            statements += _missing(target, table, live.get(table.name))
        statements += _references(target, connection, found)
        return [*statements, *target.routines(connection, found)]


def own(binding: RelationalBinding) -> list[str]:
    """Give the statements that Tongbu's own tables still need."""
    target = dialect(binding)
    with closing(target.connect()) as connection:
        return _own(target, connection, target.live(connection))


def lacking(binding: RelationalBinding, catalog: Catalog) -> tuple[list[str], list[str]]:
    """Give the entities whose table the live target does not have, and those that have it, but not all columns or child tables."""
    target = dialect(binding)
    with closing(target.connect()) as connection:
        live = target.live(connection)
    found = target.tables(catalog)
    new = [table.entity for table in found if table.parent is None and table.name not in live]
    lacks = [
        table.entity
        for table in found
        if {column.name for column in table.columns} - live.get(table.name, {}).keys()
    ]
    return new, [entity for entity in dict.fromkeys(lacks) if entity not in new]


def check(binding: Binding, catalog: Catalog) -> None:
    """Raise TongbuError for what does not fit on the live target; what is missing does not count. TryLater as `plan`."""
    try:
        plan(binding, catalog)
    except (psycopg.Error, pymysql.Error) as error:
        raise dialect(binding).explain(error) from None


def existing(binding: RelationalBinding) -> set[str]:
    """Give the tables that a target has."""
    with opened(binding) as (target, cursor):
        return set(target.live(cursor.connection))


def was_read(binding: RelationalBinding) -> bool:
    """Tell whether the binding has a position, so that what came before it will not be read again."""
    with opened(binding) as (target, cursor):
        if "tongbu_position" not in target.live(cursor.connection):
            return False
        name = target.table("tongbu_position")
        cursor.execute(
            f"select 1 from {name} where binding = %s and next_offset > 0 limit 1",
            [binding.binding],
        )
        return bool(cursor.fetchall())


def apply(binding: Binding, statements: list[str]) -> None:
    """Run the statements that `plan` gave; raise TongbuError with the one that the target refuses."""
    target = dialect(binding)
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        for statement in statements:
            try:
                cursor.execute(statement)
            except (psycopg.Error, pymysql.Error) as error:
                raise TongbuError(
                    f"{binding.binding}: the target refuses `{statement.splitlines()[0]} …`: {error}",
                    "Grant the binding's user what it lacks, or run the statement as its owner.",
                ) from None


def read_rows(binding: Binding, catalog: Catalog, table: str) -> Iterator[dict[str, Any]]:
    """
    Read a table of the target (an entity's or a child's, see `tables`) in the byte order of its key.

    Values: str, int, bool, Decimal, date, aware datetime, and plain lists and dicts where the column is JSON.
    """
    target = dialect(binding)
    known = {each.name: each for each in target.tables(catalog)}
    if table not in known:
        raise TongbuError(
            f"binding {binding.binding} has no table {table}", f"Known: {', '.join(known)}."
        )
    try:
        yield from target.rows(known[table])
    except (psycopg.Error, pymysql.Error) as error:
        raise target.explain(error) from None


@dataclass(frozen=True, slots=True)
class SetAside:
    """Records of a table that were set aside for one reason: how many, and since when the oldest."""

    table: str
    reason: str
    waits_for: str | None
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Condition:
    """How a target is: what it could not take yet, and its fills."""

    set_aside: list[SetAside] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)


def condition(binding: RelationalBinding) -> Condition:
    """Ask a target; raise TryLater where it does not answer or has no tables yet."""
    with opened(binding) as (target, cursor):
        try:
            cursor.execute(
                "select table_name, reason, waits_table, count(*), min(set_aside_at) "
                f"from {target.table('tongbu_set_aside')} where binding = %s "
                "group by table_name, reason, waits_table order by 4 desc",
                [binding.binding],
            )
            apart = [SetAside(*row) for row in cursor.fetchall()]
            found = fills.read(cursor, target.table("tongbu_fill"), binding.binding)
        except (psycopg.Error, pymysql.Error) as error:
            raise target.explain(error) from None
    return Condition(apart, found)


def mirrored(binding: RelationalBinding) -> dict[str, MirrorTable]:
    """Give the mirrored tables of a target by their names at the source, as the target has them."""
    with opened(binding) as (target, cursor):
        if "tongbu_mirror" not in target.live(cursor.connection):
            return {}
        found = mirrors.read(cursor, target.table("tongbu_mirror"), binding.binding)
    return {name: table for name, (_, table) in found.items()}


def begin_fills(binding: RelationalBinding, begun: Sequence[tuple[str, str, str]]) -> None:
    """Announce fills, each as source, entity or table, and id; raise TongbuError where the target can't be used."""
    with opened(binding) as (target, cursor):
        try:
            for each in begun:
                fills.begin(cursor, target.table("tongbu_fill"), binding.binding, *each)
        except (psycopg.Error, pymysql.Error) as error:
            raise target.explain(error) from None


def set_aside(binding: RelationalBinding, decoder: Decoder) -> dict[str, dict[str, str]]:
    """Give table -> id -> why it was set aside; where a digest stands for an id (`fills.short`), what was set aside tells it."""
    found: dict[str, dict[str, str]] = {}
    with opened(binding) as (target, cursor):
        name = target.table("tongbu_set_aside")
        try:
            cursor.execute(
                "select table_name, record_key, reason, case when record_key not like %s then value end "
                f"from {name} where binding = %s",
                ["%:%", binding.binding],  # an id has a colon behind its source
            )
        except (psycopg.Error, pymysql.Error) as error:
            raise target.explain(error) from None
        letters = cursor.fetchall()
    has_digests = any(value is not None for *_, value in letters)
    mirrored_names = {each.name for each in mirrored(binding).values()} if has_digests else set()
    for table, key, reason, value in letters:
        told = mirrors.id_of if table in mirrored_names else _entity_id
        id_ = key if value is None else _told(told, bytes(value), decoder) or key
        found.setdefault(table, {})[id_] = reason
    return found


def _entity_id(value: bytes, decoder: Decoder) -> str:
    return str(decoder.decode(value)["id"])


def _told(told: Callable[[bytes, Decoder], str], value: bytes, decoder: Decoder) -> str | None:
    try:
        return told(value, decoder)
    except TongbuError:
        raise
    except Exception:  # a damaged value makes the Avro reader raise anything
        return None


def _own(target: Any, connection: Any, live: Container[str]) -> list[str]:
    statements: list[str] = target.prepare(connection)  # first: it chooses MySQL's collation
    return statements + [sql for name, sql in target.own_tables().items() if name not in live]


def _references(target: Any, connection: Any, found: list[TargetTable]) -> list[str]:
    wanted = [(table, reference) for table in found for reference in table.references]
    there = target.foreign_keys(connection) if wanted else set()
    return [
        statement
        for table, reference in wanted
        if reference.name(table) not in there
        for statement in target.refer(table, reference)
    ]


def _check(target: Any, connection: Any, there: list[TargetTable]) -> None:
    """Refuse tables that are there, perhaps somebody else's, and can't be written as the binding wants."""
    if not there:
        return
    required, unique = target.required(connection), target.unique_keys(connection)
    loose = target.loose(connection)
    _check_privileges(target, connection, there)
    for table in there:
        ours = {column.name for column in table.columns}
        if left := required.get(table.name, set()) - ours:
            raise TongbuError(
                f"{table.name} requires a value for {', '.join(sorted(left))}, which the binding does not have",
                "Give these columns a default or let them be null, or name them under `columns` in the binding.",
            )
        if ",".join(sorted(table.key)) not in unique.get(table.name, set()):
            raise TongbuError(
                f"{table.name} has no unique key on ({', '.join(table.key)})",
                f"Run: alter table {target.table(table.name)} add unique ({', '.join(table.key)})",
            )
        if table.id in loose.get(table.name, set()):
            raise TongbuError(
                f"{table.name}.{table.id} takes different ids for the same (its collation)",
                f"Run: {target.tighten(table.name, table.id)}",
            )


def _check_privileges(target: Any, connection: Any, there: list[TargetTable]) -> None:
    """Try every kind of statement on no rows of each table; name all that is not allowed at once."""
    lacking = []
    with connection.cursor() as cursor:
        for table in there:
            name, key = target.table(table.name), target.column(table.key[0])
            for kind, statement in (
                ("select", f"select 1 from {name} where 1 = 0"),
                ("insert", f"insert into {name} ({key}) select {key} from {name} where 1 = 0"),
                ("update", f"update {name} set {key} = {key} where 1 = 0"),
                ("delete", f"delete from {name} where 1 = 0"),
            ):
                try:
                    cursor.execute(statement)
                except (psycopg.Error, pymysql.Error) as error:
                    if not target.is_privilege(error):
                        continue
                    lacking.append(f"{kind} on {name}")
    if lacking:
        raise TongbuError(
            f"{target.name}: the user may not {', '.join(lacking)}",
            "Have the owner of the tables grant it.",
        )


def _missing(target: Any, table: TargetTable, live: dict[str, str] | None) -> list[str]:
    if live is None:
        return [target.create(table)]
    for column in table.columns:
        if column.name in live and not target.fits(column, live[column.name]):
            raise TongbuError(
                f"{table.name}.{column.name} is {live[column.name]}, needed is {column.sql_type}",
                f"Tongbu only adds. If the change is right, run: {target.change(table, column)}",
            )
    return [target.add(table, column) for column in table.columns if column.name not in live]
