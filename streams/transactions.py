"""
From a lane log to source transactions: whole, once, in commit order.

A killed Connect worker repeats what it had sent, cut wherever it stood (also in the middle of a
transaction, and then possibly only its tail). A row belongs to the transaction that its own id names. A
transaction closes at its END; MariaDB and MySQL close it at a truncate or DDL as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from mypy_extensions import mypyc_attr

from streams.errors import OtherIncarnationError
from streams.records import Begin, Change, Ddl, End, Position, SourceTransaction

#: How many ended transactions are remembered to recognise repeats.
REMEMBERED = 10_000
#: Commit times of one transaction, each time it is read, are no further apart (µs): some are cut off to seconds.
_SAME_COMMIT = 1_000_000


class Rows(Protocol):
    """Where the rows of an open transaction are held; it may be of any size."""

    #: Where they stand in the state, and how many of them do.
    slot: int
    stored: int

    def append(self, change: Change) -> None:
        """Add the next row."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Change]: ...

    def store(self) -> None:
        """Move what came last to the state."""

    def forget(self) -> None:
        """Let go of them, once they are read."""


@mypyc_attr(native_class=False)
class RowsInMemory(list[Change]):
    """Rows without a state behind them."""

    slot = 0
    stored = 0

    def store(self) -> None:
        """Keep them here."""

    def forget(self) -> None:
        """Leave it to the garbage collector."""


class Open:
    """A transaction that has not ended: its rows, and where the last of them stands."""

    def __init__(
        self,
        rows: Rows,
        committed_at: int | None = None,
        last: Position | None = None,
        skip_to: Position | None = None,
        same_place: int = 0,
        place: tuple[int, int] | None = None,
    ) -> None:
        self.rows = rows
        self.committed_at = committed_at
        self.last = last
        #: Rows up to here were read before the transaction was cut off, and come again.
        self.skip_to = skip_to
        #: Same log place as the row before: COPY and multi-table truncates give many rows one LSN.
        self.same_place = same_place
        self.place = place


class Closed:
    """What an END yields: a transaction or a repeat of one, and the ids of those that are lost."""

    def __init__(
        self,
        transaction: SourceTransaction | None,
        repeat: bool = False,
        lost: tuple[str, ...] = (),
    ) -> None:
        self.transaction = transaction
        self.repeat = repeat
        self.lost = lost


@dataclass
class Assembler:
    """Holds open and cut-off transactions; `ended` maps the identities of the last ended ones, in order, to their commit times."""

    #: Gives room for the rows of a transaction.
    hold: Callable[[], Rows] = RowsInMemory
    open: dict[str, Open] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    current: str | None = None
    ended: OrderedDict[str, int | None] = field(default_factory=OrderedDict)
    last_place: int = 0

    def feed(self, event: Begin | End | Ddl | Change) -> Closed | None:
        """Take the next event of the log; give what it closes.

        Raise OtherIncarnationError on a log place, or a second use of an identity, that can't be; nothing has changed then."""
        if isinstance(event, Change):
            return self._row(event)
        if isinstance(event, Begin):
            self._begin(event.transaction)
            return None
        if isinstance(event, End):
            return self._end(event)
        return self._bare_end()

    def renew(self) -> None:
        """Take what comes from here on as another server's: its log places and identities may be those of the last one."""
        self.last_place = 0
        self.ended.clear()

    def _begin(self, transaction: str) -> None:
        current = self.current
        if current is not None and current != transaction and current in self.open:
            if self.open[current].rows:
                self.cut_off.add(current)
            else:
                del self.open[current]
        again = self._opened(transaction)
        again.skip_to, again.place, again.same_place = again.last, None, 0
        self.cut_off.discard(transaction)
        self.current = transaction

    def _row(self, change: Change) -> Closed | None:
        if change.transaction is None:
            return Closed(SourceTransaction(None, [change], change.committed_at))
        closes = change.operation == "t" and bool(change.position.place[1])
        if closes:
            self._is_repeat(change.transaction, change.committed_at)
            if self.current != change.transaction:
                self._begin(change.transaction)
        opened = self._opened(change.transaction)
        position = _numbered(opened, change)
        if opened.skip_to is None or position > opened.skip_to:
            opened.rows.append(change)
            opened.last, opened.committed_at = position, change.committed_at
        return self._bare_end() if closes else None

    def _end(self, end: End) -> Closed:
        known = self.open.get(end.transaction)
        repeat = self._is_repeat(end.identity, known.committed_at if known else None)
        if not repeat and end.place and end.place < self.last_place:
            raise OtherIncarnationError(
                f"transaction {end.transaction} ends at log place {end.place}, below the last one ({self.last_place})"
            )
        opened = self._taken(end.transaction)
        self.cut_off.discard(end.transaction)
        self.current = None
        if repeat:
            return Closed(None, repeat=True)
        self.last_place = max(self.last_place, end.place)
        return self._close(end.transaction, end.identity, opened)

    def _is_repeat(self, identity: str, committed_at: int | None) -> bool:
        """Tell whether a transaction has ended before; raise OtherIncarnationError where another one had its identity."""
        if identity not in self.ended:
            return False
        before = self.ended[identity]
        if before is None or committed_at is None:
            return True
        if abs(committed_at - before) > _SAME_COMMIT:
            raise OtherIncarnationError(
                f"transaction {identity} was committed at another time than the one with the same identity before it"
            )
        return True

    def _bare_end(self) -> Closed | None:
        """Close the current bracket where MariaDB/MySQL send no END."""
        transaction, self.current = self.current, None
        if transaction is None:
            return None
        opened = self._taken(transaction)
        if transaction in self.ended:
            return Closed(None, repeat=True)
        return self._close(transaction, transaction, opened)

    def _close(self, transaction: str, identity: str, opened: Open) -> Closed:
        self.remember(identity, opened.committed_at)
        lost = tuple(self.cut_off)
        for each in lost:
            self._taken(each)
        self.cut_off.clear()
        return Closed(SourceTransaction(transaction, opened.rows, opened.committed_at), lost=lost)

    def remember(self, identity: str, committed_at: int | None) -> None:
        """Keep what tells a repeat of what has ended."""
        self.ended[identity] = committed_at
        if len(self.ended) > REMEMBERED:
            # A plain dict would step over all that was deleted before it finds the first.
            self.ended.popitem(last=False)

    def _opened(self, transaction: str) -> Open:
        opened = self.open.get(transaction)
        if opened is None:
            opened = self.open[transaction] = Open(self.hold())
        return opened

    def _taken(self, transaction: str) -> Open:
        """Take a transaction out; its rows can still be read until the state is written."""
        opened = self.open.pop(transaction, None) or Open(RowsInMemory())
        opened.rows.forget()
        return opened


def _numbered(opened: Open, change: Change) -> Position:
    """
    Give every row of a transaction a place of its own, in order.

    PostgreSQL gives many rows one LSN (COPY): they are numbered. MariaDB and MySQL give both halves of
    a primary-key change one place: the delete stands before the create.
    """
    position = change.position
    if position.place[1]:
        return Position(position.place, 2 * position.row + (change.moved_from is not None))
    opened.same_place = opened.same_place + 1 if position.place == opened.place else 0
    opened.place = position.place
    return Position(position.place, opened.same_place)
