"""
Mirrored tables of a binding: rows of a source's tables as they are, beside the entities, in the same transactions.

Messages describe their mirrored tables, so a sink needs no other word to make a table and to follow its columns. Rows
carry no version: what comes twice or late is known by the lane offset of the place (messages.Assembler), which moves
in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson
import psycopg
import pymysql
import structlog
from pymysql.constants import ER

from schemas.catalog import MIRROR_ROW, MIRROR_TABLE
from schemas.codec import Decoder
from schemas.errors import TongbuError
from sink_writers import fills
from sink_writers.changes import divide
from sink_writers.letters import Letters
from sink_writers.messages import Message, Record
from sink_writers.sink import Place, Refused, TryLater
from sink_writers.sql import inside

if TYPE_CHECKING:
    from sink_writers.sinks.relational import Database

Values = Sequence[str | None]

#: DDL waits for those that use its table, and all others that want it wait behind.
_DDL_WAITS_S = 3

_OTHER_KEY = "it is of before the table's primary key changed: `tongbu resync {} --entity {}` brings the row as it is"

log = structlog.get_logger("sink")


class Column(NamedTuple):
    """A column: its name, its type at the source, and its type here."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class MirrorTable:
    """A mirrored table: `table` is its name at the source, `name` here."""

    table: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """Give a column by name."""
        return next(each for each in self.columns if each.name == name)


class MirrorDialect(Protocol):
    """What a kind of database does for mirrored tables."""

    def resolve(self, cursor: Any, database: str, column_type: str, *, in_key: bool) -> str:
        """Give the type here for a column's type at the source, whose kind of database is `database`."""

    def waits(self, seconds: int) -> str:
        """Give the statement after which a session's DDL waits for others that use the table so long at most."""

    def live(self, cursor: Any, name: str) -> list[str]:
        """Give the columns of a table as it is; none where it is not there."""

    def create(self, table: MirrorTable) -> str:
        """Give the statement that creates a table."""

    def add(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that adds a column."""

    def drop(self, table: MirrorTable, column: str) -> str:
        """Give the statement that drops a column."""

    def change(self, table: MirrorTable, column: Column) -> str:
        """Give the statement that changes a column's type."""

    def rekey(self, cursor: Any, before: MirrorTable, table: MirrorTable) -> str:
        """Give the statement that makes the primary key, which was another one, what it is now."""

    def truncate(self, cursor: Any, table: MirrorTable) -> None:
        """Empty a table within the transaction."""

    def put(
        self, cursor: Any, table: MirrorTable, columns: Sequence[Column], rows: Sequence[Values]
    ) -> None:
        """Insert or overwrite rows."""

    def delete(self, cursor: Any, table: MirrorTable, keys: Sequence[Values]) -> None:
        """Delete rows by key."""

    def mark(
        self, cursor: Any, seen: str, binding: str, table: MirrorTable, keys: Sequence[Values]
    ) -> None:
        """Note in the table `seen` that rows belong to the source; of rows that are not there nothing is noted."""

    def delete_unmarked(self, cursor: Any, seen: str, binding: str, table: MirrorTable) -> int:
        """Delete the rows that are not noted; give how many."""

    def unhurried(self, cursor: Any, statement: str, values: Sequence[str] | None = None) -> int:
        """Run a statement that takes as long as a table is large, so without limit of time; give how many rows."""


@dataclass(frozen=True, slots=True)
class Description:
    """A table as a message describes it. `targets` is binding -> name of its table there."""

    table: str
    database: str
    targets: dict[str, str]
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]


class Descriptions:
    """Reads descriptions; the same bytes come with every message, so each is decoded once."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._read: dict[bytes, Description] = {}

    def of(self, value: bytes) -> Description:
        """Give what the value of a MIRROR_TABLE record says."""
        found = self._read.get(value)
        if found is None:
            raw = self._decoder.decode(value)
            columns = tuple((each["name"], each["type"]) for each in raw["columns"])
            found = Description(
                raw["table"], raw["database"], raw["targets"], columns, tuple(raw["key"])
            )
            self._read[value] = found
        return found

    def keys(self, message: Message, binding: str) -> dict[str, tuple[str, ...]]:
        """Give the primary keys of the tables that a message describes and the binding mirrors; none where it has no rows for it."""
        found = [self.of(each.value) for each in message.records if each.topic == MIRROR_TABLE]
        return {each.table: each.key for each in found if binding in each.targets}


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """A row as it came: `columns` and `key_columns` are those of its description, `values` None for a delete."""

    record: Record
    table: MirrorTable
    description: bytes
    columns: tuple[str, ...]
    key_columns: tuple[str, ...]
    id: tuple[str, ...]
    values: tuple[str | None, ...] | None

    @property
    def key(self) -> tuple[str, str]:
        """What it is about, as in tongbu_set_aside."""
        return self.table.name, self.record.key


@dataclass(slots=True)
class _Batch:
    """What messages leave to do in one table: at first it may be emptied."""

    is_emptied: bool = False
    rows: dict[tuple[str, ...], MirrorRow] = field(default_factory=dict)


class Mirrors:
    """The mirrored tables of one binding in its target."""

    def __init__(
        self, database: Database, binding: str, decoder: Decoder, letters: Letters
    ) -> None:
        self._database, self._binding, self._letters = database, binding, letters
        self._dialect = database.mirror
        self._decoder = decoder
        self._descriptions = Descriptions(decoder)
        #: Table at the source -> version of its description, and the table here; None: not asked for yet.
        self._known: dict[str, tuple[int, MirrorTable]] | None = None
        #: Table at the source -> its description that was followed last, and the one that came last.
        self._followed: dict[str, bytes] = {}
        self._last: dict[str, bytes] = {}
        #: Tables (here) that are being filled: what is written meanwhile is noted, and at the end the rest deleted.
        self._filling: set[str] | None = None

    def forget(self) -> None:
        """Ask the target anew; another owner may have changed it."""
        self._known = self._filling = None
        self._followed.clear()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Forget which tables are being filled where the transaction at hand fails: it may have been what ended that."""
        try:
            yield
        except BaseException:
            self._filling = None
            raise

    def prepare(self, messages: Iterable[Message]) -> bool:
        """
        Make tables what the messages describe, before their transaction begins (MariaDB's DDL commits).

        Tell whether they have rows for this binding at all.
        """
        mine = False
        for message in messages:
            for record in message.records:
                if record.topic != MIRROR_TABLE:
                    continue
                description = self._descriptions.of(record.value)
                if self._binding not in description.targets:
                    continue
                if self._followed.get(description.table) != record.value:
                    self._follow(description, record.version)
                    self._followed[description.table] = record.value
                mine = True
        return mine

    def put(self, cursor: Any, place: Place, messages: Iterable[Message]) -> None:
        """Apply the rows of messages, per table their net effect; what the target refuses is set aside."""
        batches: dict[str, _Batch] = {}
        for message in messages:
            for record in message.records:
                if record.topic == MIRROR_TABLE:
                    self._last[record.key] = record.value
                elif record.topic == MIRROR_ROW:
                    self._gather(record, batches)
        for table, batch in batches.items():
            _, target = self._tables()[table]
            if batch.is_emptied:
                self._dialect.truncate(cursor, target)
                self._letters.close_all(cursor, place, target.name)
            self._put_rows(cursor, place, list(batch.rows.values()))

    def retry(self, cursor: Any, place: Place, records: Iterable[Record]) -> None:
        """
        Try again what was set aside, but nothing of before the table's primary key changed.

        By the new key it may be a row that the source does not have, or a delete of several.
        """
        known = [row for record in records if (row := self._from_letter(record)) is not None]
        former = [
            (row.table, row.record, _OTHER_KEY.format(self._binding, row.table.table), None)
            for row in known
            if row.key_columns != row.table.key
        ]
        self._letters.add(cursor, place, former)
        rows = [row for row in known if row.key_columns == row.table.key]
        rows.sort(key=lambda row: row.table.name)
        for _, some in groupby(rows, lambda row: row.table.name):
            self._put_rows(cursor, place, list(some))

    def advance(self, cursor: Any, place: Place, message: Message) -> None:
        """Note a chunk of a fill as progress; after the last one what the source does not have is deleted."""
        chunk = message.fill
        assert chunk is not None
        if chunk.entity not in self._tables():
            return
        _, table = self._tables()[chunk.entity]
        if not fills.continues(self._database, cursor, self._binding, message):
            return
        seen, deleted = self._database.table("tongbu_seen"), 0
        if not chunk.after:
            self._forget_seen(cursor, seen, table)
            self._mark_letters(cursor, place, seen, table, message.lane_offset)
        rows = [
            (record, self._decoder.decode(record.value))
            for record in message.records
            if record.topic == MIRROR_ROW
        ]
        if rows:
            keys = [value["key"] for _, value in rows]
            self._dialect.mark(cursor, seen, self._binding, table, keys)
        withheld = [record.key for record, value in rows if _is_withheld(record, value)]
        if withheld:
            self._keep_letters(cursor, place, seen, table, withheld)
        if chunk.last:
            deleted = self._dialect.delete_unmarked(cursor, seen, self._binding, table)
            self._close_marked_letters(cursor, place, seen, table)
            self._forget_seen(cursor, seen, table)
        brought = len(rows) - len(withheld)
        fills.note(self._database, cursor, self._binding, message, brought, deleted)
        self._filling = None

    def _forget_seen(self, cursor: Any, seen: str, table: MirrorTable) -> None:
        self._dialect.unhurried(
            cursor,
            f"delete from {seen} where binding = %s and table_name = %s",
            [self._binding, table.name],
        )

    def _mark_letters(
        self, cursor: Any, place: Place, seen: str, table: MirrorTable, version: int
    ) -> None:
        """Note which letters are older than the fill: it brings those rows anew, or the source has them no more."""
        older = [each for each in self._letters.of(place, table.name) if each[1] < version]
        cursor.executemany(
            f"insert into {seen} (binding, table_name, digest) values (%s, %s, %s)",
            [(self._binding, table.name, _letter_digest(*each)) for each in older],
        )

    def _keep_letters(
        self, cursor: Any, place: Place, seen: str, table: MirrorTable, keys: Iterable[str]
    ) -> None:
        """Note no more that letters are older than the fill: of a withheld row what the target has stays, set aside or not."""
        withheld = {self._database.letter_key(key) for key in keys}
        kept = [each for each in self._letters.of(place, table.name) if each[0] in withheld]
        cursor.executemany(
            f"delete from {seen} where binding = %s and table_name = %s and digest = %s",
            [(self._binding, table.name, _letter_digest(*each)) for each in kept],
        )

    def _close_marked_letters(
        self, cursor: Any, place: Place, seen: str, table: MirrorTable
    ) -> None:
        kept = {_letter_digest(*each): each[0] for each in self._letters.of(place, table.name)}
        query = f"select digest from {seen} where binding = %s and table_name = %s and digest in "
        noted = list(inside(cursor, query, [*kept], [self._binding, table.name]))
        self._letters.close_some(cursor, place, table.name, [kept[digest] for (digest,) in noted])

    def _is_being_filled(self, cursor: Any, table: MirrorTable) -> bool:
        if self._filling is None:
            found = fills.read(cursor, self._database.table("tongbu_fill"), self._binding)
            begun = {each.entity for each in found if each.reached and not each.is_done}
            self._filling = {
                known.name for _, known in self._tables().values() if known.table in begun
            }
        return table.name in self._filling

    def names(self) -> list[str]:
        """Give the tables of the target that are mirrored ones."""
        return [table.name for _, table in self._tables().values()]

    # -- rows

    def _gather(self, record: Record, batches: dict[str, _Batch]) -> None:
        value = self._decoder.decode(record.value)
        table = value["table"]
        if self._binding not in self._descriptions.of(self._last[table]).targets:
            return
        if record.operation == "truncate":
            batches[table] = _Batch(is_emptied=True)
            return
        if _is_withheld(record, value):
            return
        row = self._row(record, self._last[table], value)
        batches.setdefault(table, _Batch()).rows[row.id] = row

    def _row(self, record: Record, description: bytes, value: dict[str, Any]) -> MirrorRow:
        told = self._descriptions.of(description)
        _, table = self._tables()[told.table]
        columns = tuple(name for name, _ in told.columns)
        values = None if record.operation == "delete" else tuple(value["values"])
        return MirrorRow(record, table, description, columns, told.key, tuple(value["key"]), values)

    def _put_rows(self, cursor: Any, place: Place, rows: list[MirrorRow]) -> None:
        def set_aside(row: MirrorRow, refusal: Refused) -> None:
            self._letters.add(cursor, place, [(row.table, _letter(row), str(refusal), None)])

        divide(rows, partial(self._write, cursor, place), set_aside)

    def _write(self, cursor: Any, place: Place, rows: Sequence[MirrorRow]) -> None:
        table = rows[0].table
        with self._database.savepoint(cursor):
            there = {each.name: each for each in table.columns}
            # A delete by a column that is gone finds nothing: after a changed key the source is read again.
            gone = [
                row for row in rows if row.values is None and there.keys() >= set(row.key_columns)
            ]
            for key, some in groupby(gone, attrgetter("key_columns")):
                self._dialect.delete(cursor, replace(table, key=key), [row.id for row in some])
            kept = [row for row in rows if row.values is not None]
            for names, some in groupby(kept, attrgetter("columns")):
                places = [number for number, name in enumerate(names) if name in there]
                columns = [there[names[number]] for number in places]
                values = [[row.values[number] for number in places] for row in some if row.values]
                self._dialect.put(cursor, table, columns, values)
            if kept and self._is_being_filled(cursor, table):
                seen = self._database.table("tongbu_seen")
                self._dialect.mark(cursor, seen, self._binding, table, [row.id for row in kept])
            self._letters.close(cursor, place, rows)

    def _from_letter(self, record: Record) -> MirrorRow | None:
        description, value = _opened(record.value)
        if self._descriptions.of(description).table not in self._tables():
            return None
        return self._row(record, description, self._decoder.decode(value))

    # -- tables

    def _tables(self) -> dict[str, tuple[int, MirrorTable]]:
        if self._known is None:
            with self._ddl() as cursor:
                self._known = read(cursor, self._database.table("tongbu_mirror"), self._binding)
        return self._known

    def _follow(self, description: Description, version: int) -> None:
        """Make the table what a description says, unless a later one was followed already."""
        known = self._tables()
        at, before = known.get(description.table, (-1, None))
        if version <= at:
            return
        with self._ddl() as cursor:
            now = make_table(self._dialect, cursor, description, self._binding)
            for statement in statements(self._dialect, cursor, before, now):
                log.info("mirror", binding=self._binding, table=now.name, statement=statement)
                self._execute(cursor, statement)
            store(cursor, self._database.table("tongbu_mirror"), self._binding, version, now)
        known[description.table] = version, now

    def _execute(self, cursor: Any, statement: str) -> None:
        try:
            cursor.execute(statement.replace("%", "%%"), [])
        except (psycopg.Error, pymysql.Error) as error:
            if _waited(error):
                raise TryLater(
                    f"{self._binding}: `{statement.splitlines()[0]}` waits for others that use the table",
                    "It is tried again until it goes; others are let through meanwhile. If it stays so, end the "
                    "transaction that has read or written the table and is open since.",
                ) from None
            reason = self._database.refusal(error)
            if not reason and self._database.passes(error):
                raise
            raise TongbuError(
                f"{self._binding}: the target refuses `{statement.splitlines()[0]}`: "
                f"{reason or str(error.args[-1]).splitlines()[0]}",
                "Run it as the table's owner, or do what comes to the same; a table or column that is there is not made "
                "again, so it may be of another type that takes the values. Then start the sink again.",
            ) from None

    @contextmanager
    def _ddl(self) -> Iterator[Any]:
        with closing(self._database.connect()) as connection, connection.cursor() as cursor:
            self._database.prepare(connection)
            try:
                cursor.execute(self._dialect.waits(_DDL_WAITS_S))
                yield cursor
            except (psycopg.Error, pymysql.Error) as error:
                raise self._database.explain(error) from None


def make_table(
    dialect: MirrorDialect, cursor: Any, description: Description, binding: str
) -> MirrorTable:
    """Give the table that a description means in a binding's target."""
    columns = tuple(
        Column(
            name,
            kind,
            dialect.resolve(cursor, description.database, kind, in_key=name in description.key),
        )
        for name, kind in description.columns
    )
    return MirrorTable(description.table, description.targets[binding], columns, description.key)


def statements(
    dialect: MirrorDialect, cursor: Any, before: MirrorTable | None, now: MirrorTable
) -> list[str]:
    """
    Give what makes the live table the one wanted: created, columns added, changed, and dropped as at the source.

    Another primary key comes after the columns that it may have, and before those go that it had.
    """
    live = dialect.live(cursor, now.name)
    if not live:
        return [dialect.create(now)]
    old = {each.name: each for each in before.columns} if before else {}
    wanted = {each.name for each in now.columns}
    found = [dialect.add(now, each) for each in now.columns if each.name not in live]
    if before is not None and before.key != now.key:
        found.append(dialect.rekey(cursor, before, now))
    found += [
        dialect.change(now, each)
        for each in now.columns
        if each.name in live and each.name in old and old[each.name].target != each.target
    ]
    return found + [dialect.drop(now, name) for name in old if name in live and name not in wanted]


def read(cursor: Any, name: str, binding: str) -> dict[str, tuple[int, MirrorTable]]:
    """Give the mirrored tables of a binding, by their names at the source, with their descriptions' versions."""
    cursor.execute(f"select version, description from {name} where binding = %s", [binding])
    found = {}
    for version, text in cursor.fetchall():
        raw = orjson.loads(text)
        columns = tuple(Column(*each) for each in raw["columns"])
        table = MirrorTable(raw["table"], raw["name"], columns, tuple(raw["key"]))
        found[table.table] = version, table
    return found


def store(cursor: Any, name: str, binding: str, version: int, table: MirrorTable) -> None:
    """Note how a table was made."""
    text = orjson.dumps(
        {
            "table": table.table,
            "name": table.name,
            "columns": [*map(list, table.columns)],
            "key": table.key,
        }
    ).decode()
    cursor.execute(
        f"delete from {name} where binding = %s and table_name = %s", [binding, table.name]
    )
    cursor.execute(
        f"insert into {name} (binding, table_name, version, description) values (%s, %s, %s, %s)",
        [binding, table.name, version, text],
    )


def _waited(error: Exception) -> bool:
    """Tell whether a statement gave up waiting for a lock."""
    return isinstance(error, psycopg.errors.LockNotAvailable) or error.args[:1] == (
        ER.LOCK_WAIT_TIMEOUT,
    )


def _is_withheld(record: Record, value: dict[str, Any]) -> bool:
    """Tell whether a row only says that it is there: it is withheld, and what the target has of it stays."""
    return record.operation == "snapshot" and not value["values"]


def _letter(row: MirrorRow) -> Record:
    """Give a record that says all by itself: the description stands before the row."""
    record, size = row.record, len(row.description).to_bytes(4, "big")
    value = size + row.description + record.value
    return Record(record.topic, record.key, record.operation, record.version, value)


def _letter_digest(key: str, version: int) -> str:
    return fills.digest(f"{version} {key}")


def id_of(letter: bytes, decoder: Decoder) -> str:
    """Give the id of the row in a letter, with the key's values as text."""
    description, value = map(decoder.decode, _opened(letter))
    return f"{description['source']}:{description['table']}{orjson.dumps(value['key']).decode()}"


def _opened(value: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(value[:4], "big")
    return value[4 : 4 + size], value[4 + size :]
