"""
A connection that knows how long a statement the server takes (its max_allowed_packet).

The server ends the connection at a longer one, which looks like trouble that passes; here it is a data error instead.
"""

from __future__ import annotations

from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import ER
from pymysql.cursors import Cursor


class MeasuredConnection(Connection):
    """Refuses a statement that the server would not take before it is sent; statements of many rows stay below that."""

    #: In bytes; fixed with the connection, whatever the server is set to later.
    longest = 1 << 30

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        with self.cursor(Cursor) as cursor:
            cursor.execute("select @@max_allowed_packet")
            ((packet,),) = cursor.fetchall()
        self.longest = (
            packet - 2
        )  # one for the command, and one as the server takes what is shorter

    def cursor(self, cursor: Any = None) -> Any:
        """Give a cursor whose statements of several rows the server takes."""
        made = super().cursor(cursor)
        made.max_stmt_length = min(made.max_stmt_length, self.longest)
        return made

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        """Send a statement; raise DataError where it is too long."""
        if isinstance(sql, str):
            sql = sql.encode(self.encoding)
        if len(sql) > self.longest:
            raise pymysql.DataError(
                ER.NET_PACKET_TOO_LARGE,
                f"it takes a statement of {len(sql):,} bytes, and the target's max_allowed_packet is {self.longest + 2:,}",
            )
        return int(super().query(sql, unbuffered))
