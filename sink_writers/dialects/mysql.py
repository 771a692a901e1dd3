"""MySQL 8: where it differs from MariaDB."""

from __future__ import annotations

import re
from typing import Any

from sink_writers.dialects.mariadb import Mariadb

#: MySQL ends no idle transaction by itself: a successor ends the connection of a stopped owner (sinks/mariadb.py).
_SESSION = (
    "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
    "transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 4"
)
#: The first version with a collation that compares by bytes and minds trailing spaces.
_HAS_BYTEWISE = (8, 0, 17)
#: Older versions tell the width of integers, as MariaDB does; newer ones don't.
_WIDTHS = {"int": "int(11)", "bigint": "bigint(20)"}


class Mysql(Mariadb):
    """The target tables of a relational binding in a MySQL database."""

    session = _SESSION

    def prepare(self, connection: Any) -> list[str]:
        """
        Choose the collation by the server's version.

        Before 8.0.17 two ids that differ in trailing spaces only are the same key: the second is set aside.
        """
        version = tuple(int(each) for each in re.findall(r"\d+", connection.get_server_info())[:3])
        bytewise = "utf8mb4_0900_bin" if version >= _HAS_BYTEWISE else "utf8mb4_bin"
        self.options = f"engine=InnoDB default character set utf8mb4 collate {bytewise}"
        return []

    def live(self, connection: Any) -> dict[str, dict[str, str]]:
        """Give table -> column -> type, as MariaDB spells it."""
        return {
            table: {column: _WIDTHS.get(kind, kind) for column, kind in columns.items()}
            for table, columns in super().live(connection).items()
        }
