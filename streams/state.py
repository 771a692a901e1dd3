"""
The state of a lane: row images, published versions and the input position, in one RocksDB.

Writes stay in memory, batch by batch: `seal` ends a batch, `write` puts it on disk with its input position in one
atomic write, `retire` lets memory go of it. Reads see every write, whatever its batch. A batch that grows too
large for memory is set down on disk beside the state, and becomes part of it by one atomic write, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rocksdict import AccessType, Options, Rdict, WriteBatch

from streams.spool import Spool

_pack = msgspec.msgpack.Encoder(decimal_format="string").encode
_unpack = msgspec.msgpack.Decoder().decode

#: How far a state is, and in which term; whose it is: source, epoch and topic id of the lane.
POSITION, TERM, LANE = b"sys\0position", b"sys\0term", b"sys\0lane"
#: What is in force, as it stood in the lane log.
DECLARATIONS, CAPTURED = b"sys\0declarations", b"sys\0captured"
_MISSING: Any = object()

#: A batch with more writes than this is set down on disk before its outputs are delivered.
SET_DOWN_WRITES = 2_500
#: Where it stands until then: the key behind this byte, which no other key begins with; empty = removed.
_SET_DOWN, _SET_DOWN_END = b"\xff", b"\xff\xff"
_REMOVED = b""
#: There from the moment when what was set down belongs to the state, until all of it stands in its place.
_MOVING = b"sys\0moving"
_MOVED_AT_ONCE = 1_000
#: So many values of at most so many bytes that were read are kept in memory.
KNOWN, KNOWN_BYTES = 2_000, 4_096


def join(*parts: str | bytes) -> bytes:
    """Compose a key; parts are separated by a zero byte, which neither names nor JSON keys contain."""
    return b"\0".join([part if isinstance(part, bytes) else part.encode() for part in parts])


@dataclass
class Writes:
    """A batch's writes; `dropped` are prefixes that nobody reads any more."""

    number: int
    position: int = 0
    values: dict[bytes, Any] = field(default_factory=dict)
    dropped: list[bytes] = field(default_factory=list)
    set_down: bool = False


class Standing(NamedTuple):
    """How far a state is, in which term (streams/terms.py), and of which lane (source, epoch, topic_id); None where it says nothing."""

    position: int | None
    term: str | None
    lane: dict[str, Any] | None


def standing(folder: Path) -> Standing:
    """Tell where a state stands that nobody has open, and change nothing."""
    with closing(_read_only(folder)) as database:
        return _standing(database)


def stored(folder: Path, *keys: bytes) -> list[Any]:
    """Give what a state that nobody has open holds under some keys; None where there is nothing."""
    with closing(_read_only(folder)) as database:
        found = [database.get(key) for key in keys]
    return [None if value is None else _unpack(value) for value in found]


def _read_only(folder: Path) -> Rdict:
    return Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.read_only())


def _standing(database: Rdict) -> Standing:
    position, term, lane = [database.get(key) for key in (POSITION, TERM, LANE)]
    return Standing(
        int.from_bytes(position, "big") if position is not None else None,
        _unpack(term) if term else None,
        _unpack(lane) if lane else None,
    )


class State:
    """A key-value store with an overlay of writes that are not on disk yet. Values are anything msgpack can hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        # Half of all reads are for keys that are not there yet: a filter tells so without a search in the memtable.
        options.set_memtable_prefix_bloom_ratio(0.05)
        options.set_memtable_whole_key_filtering(True)
        self._db = Rdict(str(folder), options=options)
        #: key -> (number of the batch, value)
        self._overlay: dict[bytes, tuple[int, Any]] = {}
        #: Some of what was read from disk lately: rows that many others refer to are read again and again.
        self._known: dict[bytes, Any] = {}
        self._batch = Writes(1)
        #: Something is set down that does not stand in its place yet.
        self._down = False
        #: The moving of a large batch to its place, while it lasts.
        self._moving: Iterator[int] | None = None
        self._recover()
        stands = _standing(self._db)
        #: The next offset to read, as it is on disk; None for a state that has seen nothing.
        self.position: int | None = stands.position
        #: The term of the last worker that has begun one with it.
        self.term: str | None = stands.term

    # -- reading and writing

    def get(self, key: bytes) -> Any:
        """Give a value, which must not be changed, or None."""
        fresh = self._overlay.get(key)
        if fresh is not None:
            return fresh[1]
        if self._down:
            stored = self._db.get(_SET_DOWN + key)
            if stored is not None:
                return _unpack(stored) if stored else None
        known = self._known.get(key)
        if known is not None:
            return known
        stored = self._db.get(key)
        if not stored:
            return None
        value = _unpack(stored)
        if len(stored) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = value
        return value

    def put(self, key: bytes, value: Any) -> None:
        """Set a value, which must not be changed afterwards; None removes it."""
        batch = self._batch
        self._known.pop(key, None)
        self._overlay[key] = (batch.number, value)
        batch.values[key] = value
        if len(batch.values) >= SET_DOWN_WRITES:
            self._set_down()

    def drop(self, prefix: bytes) -> None:
        """Remove all entries of earlier batches under a prefix that nobody will read again."""
        self._batch.dropped.append(prefix)

    def iterate(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, Any]]:
        """Give the entries under `prefix` whose rest is above `after`, in byte order, as they are at the beginning."""
        start = prefix + after
        fresh = sorted(
            key for key in self._overlay if key.startswith(prefix) and (not after or key > start)
        )
        layers: list[Iterator[tuple[bytes, int, Any]]] = [
            iter([(key, 0, self._overlay[key][1]) for key in fresh]),
            _layer(2, self._stored(b"", prefix, after)),
        ]
        if self._down:
            layers.append(_layer(1, self._stored(_SET_DOWN, prefix, after)))
        last = None
        for key, layer, value in merge(*layers, key=lambda entry: entry[:2]):
            if key == last:
                continue
            last = key
            if layer == 0:
                if value is not None:
                    yield key, value
            elif value != _REMOVED:
                yield key, _unpack(value)

    def unwritten(self, prefix: bytes) -> list[bytes]:
        """Give the keys under a prefix that batches have set or removed which are not written yet."""
        down = self._stored(_SET_DOWN, prefix, b"") if self._down else ()
        in_memory = [key for key in self._overlay if key.startswith(prefix)]
        return in_memory + [key for key, _ in down if key not in self._overlay]

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, Any]]:
        """Give up to `limit` entries under `prefix` whose rest is above `after`, in byte order of the keys."""
        return list(islice(self.iterate(prefix, after), limit))

    def _stored(self, space: bytes, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, bytes]]:
        for place, value in self._db.items(from_key=space + prefix + after):
            if not place.startswith(space + prefix):
                return
            key = place[len(space) :]
            if not after or key != prefix + after:
                yield key, value

    def spool(self) -> Spool[Any]:
        """Give a list that moves to this disk when it is long."""
        return Spool(self.folder)

    # -- from memory to disk

    def begin(self, term: str) -> None:
        """Note the term in which the state is written from here on."""
        batch = WriteBatch(raw_mode=True)
        batch.put(TERM, _pack(term))
        self._db.write(batch)
        self.term = term

    @property
    def set_down(self) -> bool:
        """Tell whether a batch stands on disk already: it must be sealed and written before the next one begins."""
        return self._down

    def seal(self, position: int) -> Writes:
        """End the batch in hand; `position` is the next offset to read after it."""
        sealed = self._batch
        sealed.position = position
        if sealed.set_down:
            self._set_down()
        self._batch = Writes(sealed.number + 1)
        return sealed

    def write(self, *sealed: Writes) -> None:
        """Write batches, in their order, and the position behind them at once."""
        batch = WriteBatch(raw_mode=True)
        for each in sealed:
            for prefix in each.dropped:
                batch.delete_range(prefix, prefix + b"\xff")
            _fill(batch, each.values)
        last = sealed[-1]
        batch.put(POSITION, last.position.to_bytes(8, "big"))
        if last.set_down:
            batch.put(_MOVING, b"1")
        self._db.write(batch)
        if last.set_down:
            self._moving = self._move()
        self.position = last.position

    def settle(self) -> bool:
        """Put some of a large batch that is written in its place; give whether there is more to do."""
        if self._moving is not None and next(self._moving, None) is None:
            self._moving = None
        return self._moving is not None

    def retire(self, sealed: Writes) -> None:
        """Let memory go of a batch that is on disk."""
        overlay, number = self._overlay, sealed.number
        for key in sealed.values:
            entry = overlay.get(key)  # gone where a later batch has set it down
            if entry is not None and entry[0] == number:
                del overlay[key]

    def commit(self, position: int) -> None:
        """Write everything since the last commit, with the next offset to read, at once."""
        sealed = self.seal(position)
        self.write(sealed)
        while self.settle():
            pass
        self.retire(sealed)

    def discard(self) -> None:
        """Forget what is not on disk."""
        self._overlay.clear()
        self._moving = None
        self._recover()
        self._batch = Writes(self._batch.number + 1)

    @property
    def database(self) -> Rdict:
        """The RocksDB itself, for what copies it."""
        return self._db

    @property
    def lane(self) -> dict[str, Any] | None:
        """Tell whose it is, as it is on disk: source, epoch and topic id; None for a state that has not read it. Any thread may ask."""
        return _standing(self._db).lane

    @property
    def bytes_on_disk(self) -> int:
        """Give the size of the state's files."""
        size = self._db.property_int_value("rocksdb.total-sst-files-size")
        return int(size or 0)

    def close(self) -> None:
        """Release the folder for another owner."""
        self._db.close()

    # -- a batch too large for memory

    def _set_down(self) -> None:
        batch = WriteBatch(raw_mode=True)
        _fill(batch, self._batch.values, _SET_DOWN)
        self._db.write(batch)
        for key in self._batch.values:
            del self._overlay[key]
        self._batch.values.clear()
        self._batch.set_down = self._down = True

    def _recover(self) -> None:
        """Finish or forget what a crash has left set down."""
        if self._db.get(_MOVING) is not None:
            for _ in self._move():
                pass
        elif next(iter(self._db.keys(from_key=_SET_DOWN)), None) is not None:
            self._db.delete_range(_SET_DOWN, _SET_DOWN_END)
        self._down = False

    def _move(self) -> Iterator[int]:
        """Put what was set down in its place, chunk by chunk; doing it again does no harm."""
        entries = iter(self._db.items(from_key=_SET_DOWN))
        while chunk := list(islice(entries, _MOVED_AT_ONCE)):
            batch = WriteBatch(raw_mode=True)
            for place, value in chunk:
                if value == _REMOVED:
                    batch.delete(place[1:])
                else:
                    batch.put(place[1:], value)
            self._db.write(batch)
            yield len(chunk)
        last = WriteBatch(raw_mode=True)
        last.delete_range(_SET_DOWN, _SET_DOWN_END)
        last.delete(_MOVING)
        self._db.write(last)
        self._down = False


def _layer(
    number: int, entries: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, int, bytes]]:
    for key, stored in entries:
        yield key, number, stored


def _fill(batch: WriteBatch, values: dict[bytes, Any], space: bytes | None = None) -> None:
    """Put values into a write batch; in `space`, what is removed has to be remembered."""
    for key, value in values.items():
        if space is not None:
            batch.put(space + key, _REMOVED if value is None else _pack(value))
        elif value is None:
            batch.delete(key)
        else:
            batch.put(key, _pack(value))
