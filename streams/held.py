"""
What the assembler holds between batches: the rows of open transactions, and which transactions have ended.

It is part of the lane's state, so the next offset is all that is needed to go on. Rows are written once each, and
only those of the batch in hand are in memory: an open transaction may be of any size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from streams.records import Change, Ddl, Position
from streams.stages.image import Store
from streams.transactions import Assembler, Open

_HEAD, _ENDED, _ROWS = b"sys\0assembler", b"end\0", b"row\0"
#: So many rows of a transaction stay in memory although they are in the state.
KEPT = 100


class RowStore(Store, Protocol):
    """A store that lets go of many entries at once."""

    def drop(self, prefix: bytes) -> None:
        """Remove all entries of earlier batches under a prefix that nobody will read again."""


class HeldRows:
    """
    Rows in their order, as of one open transaction; `slot` is its place in the state, which no other transaction had or gets.

    As long as they are few, all of them stay in memory, too: nearly every batch ends in the middle of a transaction, and to read
    its rows back would mean a search in all that is under way.
    """

    def __init__(self, state: RowStore, slot: int, stored: int = 0) -> None:
        self._state = state
        #: Those that are not in the state yet; and those that are, None where they are not in memory.
        self._fresh: list[Change] = []
        self._kept: list[Change] | None = None if stored else []
        self.slot, self.stored = slot, stored

    def append(self, change: Change) -> None:
        """Add the next row."""
        self._fresh.append(change)

    def __len__(self) -> int:
        return self.stored + len(self._fresh)

    def __iter__(self) -> Iterator[Change]:
        if self._kept is not None:
            yield from self._kept
        else:
            for _, row in self._state.iterate(self._prefix):
                yield msgspec.convert(row, Change)
        yield from self._fresh

    def store(self) -> None:
        """Move the rows of the batch in hand to the state."""
        for change in self._fresh:
            self._state.put(self._key(self.stored), msgspec.to_builtins(change))
            self.stored += 1
        if self.stored > KEPT:
            self._kept = None
        elif self._kept is not None:
            self._kept += self._fresh
        self._fresh = []

    def forget(self) -> None:
        """Remove the rows from the state; they can still be read until it is written."""
        if self._kept is None:
            self._state.drop(self._prefix)
        else:
            for number in range(self.stored):
                self._state.put(self._key(number), None)

    def _key(self, number: int) -> bytes:
        return self._prefix + number.to_bytes(8, "big")

    @property
    def _prefix(self) -> bytes:
        return _ROWS + self.slot.to_bytes(8, "big")


class Held:
    """Gives the assembler of a lane as its state has it, and keeps it there."""

    def __init__(self, state: RowStore) -> None:
        self._state = state
        self._slot = 0
        #: How many transactions have ended since the lane began.
        self.ended = 0
        self._stored_head: dict[str, Any] | None = None
        self.assembler = Assembler(hold=self.rows)
        self._restore()

    def store(self) -> None:
        """Put what came since the last call into the state; for the end of every batch."""
        assembler = self.assembler
        for opened in assembler.open.values():
            opened.rows.store()
        head = {
            "slot": self._slot,
            "current": assembler.current,
            "cut_off": sorted(assembler.cut_off),
            "last_place": assembler.last_place,
            "open": {name: _opened(each) for name, each in assembler.open.items()},
        }
        if head != self._stored_head:
            self._state.put(_HEAD, head)
            self._stored_head = head

    def remember_ended(self) -> None:
        """Keep the identity of the transaction that ended last; the state has as many as the assembler, as a ring."""
        ended = self.assembler.ended
        self.ended += 1
        self._state.put(_ended_key(self.ended), [*next(reversed(ended.items()))])
        oldest = self.ended - len(ended)
        if oldest > 0:
            self._state.put(_ended_key(oldest), None)

    def is_new(self, ddl: Ddl) -> bool:
        """Tell whether DDL comes for the first time, and remember it."""
        if ddl.identity is None:
            return True
        if ddl.identity in self.assembler.ended:
            return False
        self.assembler.remember(ddl.identity, None)
        self.remember_ended()
        return True

    def renew(self) -> None:
        """Forget which transactions have ended, and where: another server begins anew."""
        self.assembler.renew()
        for key, _ in self._state.scan(_ENDED):
            self._state.put(key, None)

    def rows(self) -> HeldRows:
        """Give room for rows, which nothing else had or gets."""
        self._slot += 1
        return HeldRows(self._state, self._slot)

    def _restore(self) -> None:
        state, assembler = self._state, self.assembler
        ended = state.scan(_ENDED)
        assembler.ended = OrderedDict(_identity(value) for _, value in ended)
        self.ended = int.from_bytes(ended[-1][0][len(_ENDED) :], "big") if ended else 0
        head = self._stored_head = state.get(_HEAD)
        if head is None:
            return
        self._slot = head["slot"]
        assembler.current, assembler.last_place = head["current"], head["last_place"]
        assembler.cut_off = set(head["cut_off"])
        for name, (slot, stored, *rest) in head["open"].items():
            last, skip_to, same_place, place, committed_at = rest
            assembler.open[name] = Open(
                rows=HeldRows(state, slot, stored),
                last=msgspec.convert(last, Position | None),
                skip_to=msgspec.convert(skip_to, Position | None),
                same_place=same_place,
                place=tuple(place) if place else None,
                committed_at=committed_at,
            )


def _identity(value: Any) -> tuple[str, int | None]:
    """Read an ended transaction's identity and commit time; the state of an earlier version has no time."""
    return (value, None) if isinstance(value, str) else (value[0], value[1])


def _ended_key(number: int) -> bytes:
    return _ENDED + number.to_bytes(8, "big")


def _opened(opened: Open) -> list[Any]:
    rows = opened.rows
    position = [opened.last, opened.skip_to, opened.same_place, opened.place]
    return [rows.slot, rows.stored, *msgspec.to_builtins(position), opened.committed_at]
