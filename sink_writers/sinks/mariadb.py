"""MariaDB and MySQL as targets: connection, ownership and transactions; dialects/mariadb_apply.py has what is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql

from schemas.declarations import RelationalBinding
from sink_writers import fills
from sink_writers.changes import Changes
from sink_writers.dialects.mariadb import Mariadb, explain, refusal
from sink_writers.dialects.mariadb_apply import MINE, Writer, move_position
from sink_writers.dialects.mariadb_mirror import quote
from sink_writers.dialects.mysql import Mysql
from sink_writers.sink import Move, OtherTopic, Place, Position, Refused
from sink_writers.tables import TargetTable

#: A letter without its value: key, reason and names.
_REST_OF_LETTER = 16 * 1024

_UNIQUE = """select distinct s.column_name from information_schema.statistics s
    join information_schema.columns c using (table_schema, table_name, column_name)
   where s.table_schema = database() and s.table_name = %s and s.non_unique = 0
     and s.index_name <> 'PRIMARY' and c.is_nullable = 'YES' and s.column_name <> %s"""


class MariadbDatabase(Mariadb):
    """The target while it is written; see Database in relational.py. MySQL differs in its dialect only."""

    def __init__(self, binding: RelationalBinding) -> None:
        super().__init__(binding)
        self._connection: pymysql.Connection[Any] | None = None
        self._epochs: dict[Place, int] = {}
        self._unique: dict[str, list[str]] = {}
        self._writer = Writer([])

    def learn(self, tables: list[TargetTable]) -> None:
        """Learn which tables belong together."""
        self._writer = Writer(tables)

    @contextmanager
    def transaction(self, place: Place) -> Iterator[Any]:
        """Give a cursor of a transaction, on a connection that is opened if need be."""
        connection = self._connection or self._open(place)
        try:
            with _data_errors():
                with connection.cursor() as cursor:
                    yield cursor
                connection.commit()
        except pymysql.Error as error:
            self.close()
            raise explain(place.binding, error) from None
        except BaseException:
            with suppress(pymysql.Error):
                connection.rollback()
            raise

    single = transaction

    @contextmanager
    def savepoint(self, cursor: Any) -> Iterator[None]:
        """Undo what was done inside when it is left by an error."""
        cursor.execute("savepoint tongbu")
        try:
            with _data_errors():
                yield
        except Refused:
            cursor.execute("rollback to savepoint tongbu")
            raise

    def claim(self, cursor: Any, place: Place) -> Position:
        """End the last owner's connection, raise the epoch and read the position."""
        key = [place.binding, place.topic, place.partition]
        _end_last_owner(cursor, key)
        cursor.execute(
            "insert into tongbu_position "
            "(binding, topic, partition_no, topic_id, epoch, connection_id, next_offset, lane_offset) "
            "values (%s, %s, %s, %s, 1, connection_id(), 0, 0) "
            "on duplicate key update epoch = epoch + 1, connection_id = connection_id()",
            [*key, place.topic_id],
        )
        cursor.execute(
            f"select topic_id, next_offset, lane_offset, epoch from tongbu_position where {MINE}",
            key,
        )
        topic_id, next_offset, lane_offset, epoch = cursor.fetchone()
        if topic_id != place.topic_id:
            raise OtherTopic(place, topic_id)
        self._epochs[place] = epoch
        return Position(next_offset, lane_offset, epoch)

    def write(self, cursor: Any, changes: Changes, move: Move | None) -> str | None:
        """Put parents first, follow moves, remove children first."""
        if move is not None and not move_position(cursor, move):
            return None
        self._writer.write(cursor, changes)
        return ""

    def unique_columns(self, cursor: Any, table: TargetTable) -> list[str]:
        """Ask the catalog once per table."""
        if table.name not in self._unique:
            cursor.execute(_UNIQUE, [table.name, table.id])
            self._unique[table.name] = [quote(name) for (name,) in cursor.fetchall()]
        return self._unique[table.name]

    def bytewise(self, column: str) -> str:
        """The tables' own collation does."""
        return column

    def foreign(self, column: str) -> str:
        """Take away the column's own collation, so that the table's decides."""
        return f"convert({column} using utf8mb4)"

    def letter_key(self, key: str) -> str:
        """Give a digest in place of a key that is longer than the column."""
        return fills.short(key)

    def keeps(self, cursor: Any, value: bytes) -> bool:
        """Bytes are sent in hex, and what else a letter has is short."""
        return bool(2 * len(value) + _REST_OF_LETTER <= cursor.connection.longest)

    def comparable(self, id_: str) -> str:
        """A text may have any character."""
        return id_

    def seconds(self, begin: str, end: str) -> str:
        """Give the expression."""
        return f"timestampdiff(second, {begin}, {end})"

    def days_ago(self, days: int) -> str:
        """Give the expression."""
        return f"now() - interval {days} day"

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            with suppress(pymysql.Error):
                self._connection.close()
            self._connection = None

    def _open(self, place: Place) -> pymysql.Connection[Any]:
        """Open the connection, and let a successor know which it is before it holds any lock."""
        self._connection = self.connect(init_command=self.session)
        try:
            with self._connection.cursor() as cursor:
                for owned, epoch in self._epochs.items():
                    cursor.execute(
                        f"update tongbu_position set connection_id = connection_id() where {MINE} and epoch = %s",
                        [owned.binding, owned.topic, owned.partition, epoch],
                    )
            self._connection.autocommit(False)
        except pymysql.Error as error:
            self.close()
            raise explain(place.binding, error) from None
        return self._connection


@contextmanager
def _data_errors() -> Iterator[None]:
    try:
        yield
    except pymysql.Error as error:
        if reason := refusal(error):
            raise Refused(reason) from None
        raise


def _end_last_owner(cursor: Any, key: list[Any]) -> None:
    """A stopped owner may hold the position's lock; not every version ends an idle transaction by itself."""
    cursor.execute(
        "select p.id from tongbu_position t join information_schema.processlist p on p.id = t.connection_id "
        "where t.binding = %s and t.topic = %s and t.partition_no = %s "
        "and p.id <> connection_id() and p.db = database() and p.user = substring_index(user(), '@', 1)",
        key,
    )
    for (connection,) in cursor.fetchall():
        with suppress(pymysql.Error):  # it has just ended by itself
            cursor.execute(f"kill {int(connection)}")


class MysqlDatabase(Mysql, MariadbDatabase):
    """The same for MySQL."""
