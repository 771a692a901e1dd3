"""Republish: an entity is published again chunk by chunk; each chunk asks for the next by a record in the lane's own log."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas import control
from schemas.control import Republish
from streams.records import Output
from streams.stages.image import Store

_QUEUE, _PUBLISHED, _FILL = b"sys\0queue", b"sys\0published", b"fil\0"
_DEFERRED = b"sys\0deferred"
_DONE = "\x00done"
#: Fills that are done are known for so many more: a chunk of theirs that was asked for twice must not begin them anew.
_FINISHED, FINISHED_KEPT = b"sys\0finished-fills", 100
_SNAPSHOT = "snapshot-"
#: A record that names ids names so many.
_IDS = 500


class Republishing:
    """What is being published again in a lane, as its state has it."""

    def __init__(self, source: str, store: Store) -> None:
        self._source, self._store = source, store

    @property
    def snapshot_published(self) -> bool:
        """Tell whether an initial snapshot was published completely."""
        return self._store.get(_PUBLISHED) is not None

    def enqueue(self, offset: int, entities: list[str]) -> Iterator[Output]:
        """Publish entities, one after the other, behind those that wait already."""
        waiting: list[list[str]] | None = self._store.get(_QUEUE)
        names = {entity for _, entity in waiting or ()}
        added = [
            [f"{_SNAPSHOT}{offset}-{entity}", entity] for entity in entities if entity not in names
        ]
        self._store.put(_QUEUE, [*(waiting or ()), *added])
        if waiting is None:
            yield from self._next_in_queue()

    def is_due(self, chunk: Republish) -> bool:
        """Tell whether a chunk is the one that comes next; one that was asked for twice is published once."""
        return (self._store.get(_place(chunk)) or "") == chunk.after

    def published(self, chunk: Republish, to: str, *, last: bool) -> Iterator[Output]:
        """Ask for what follows a chunk that came as far as the id `to`."""
        self._store.put(_place(chunk), _DONE if last else to)
        if last:
            self._finish(_place(chunk))
        if not last:
            yield self._append(msgspec.structs.replace(chunk, after=to))
        elif chunk.fill.startswith(_SNAPSHOT):
            yield from self._next_in_queue()

    def again(self, entity: str, fill: str) -> Output:
        """Ask for the first chunk of an entity, for everybody."""
        return self._append(Republish(source=self._source, entity=entity, fill=fill))

    def late(self, entity: str, ids: list[str]) -> Iterator[Output]:
        """Ask for ids whose records may arrive behind newer ones."""
        for start in range(0, len(ids), _IDS):
            chunk = tuple(ids[start : start + _IDS])
            yield self._append(
                Republish(source=self._source, entity=entity, fill="late", ids=chunk)
            )

    def pass_over(self, chunk: Republish) -> Iterator[Output]:
        """Leave out a chunk of an entity that is not mapped any more, so that what waits behind it goes on."""
        if self.is_due(chunk) and chunk.fill.startswith(_SNAPSHOT):
            self._store.put(_place(chunk), _DONE)
            self._finish(_place(chunk))
            yield from self._next_in_queue()

    def defer(self, chunk: Republish) -> Iterator[Output]:
        """Keep a chunk until its entity can be published; the lane's own queue comes back to it anyway."""
        if chunk.fill.startswith(_SNAPSHOT):
            yield from self.pass_over(chunk)
        else:
            deferred = self._store.get(_DEFERRED) or []
            self._store.put(_DEFERRED, [*deferred, msgspec.to_builtins(chunk)])

    def resume(self, entities: list[str]) -> Iterator[Output]:
        """Ask again for what was deferred of entities."""
        deferred = [msgspec.convert(each, Republish) for each in self._store.get(_DEFERRED) or ()]
        kept = [each for each in deferred if each.entity not in entities]
        self._store.put(_DEFERRED, [msgspec.to_builtins(each) for each in kept] or None)
        for each in deferred:
            if each.entity in entities:
                yield self._append(each)

    def _finish(self, place: bytes) -> None:
        """Forget the fill that was done first where there are too many."""
        finished = self._store.get(_FINISHED)
        if finished is None:
            finished = [known for known, to in self._store.iterate(_FILL) if to == _DONE]
        finished = [*(known for known in finished if known != place), place]
        for known in finished[:-FINISHED_KEPT]:
            self._store.put(known, None)
        self._store.put(_FINISHED, finished[-FINISHED_KEPT:])

    def _next_in_queue(self) -> Iterator[Output]:
        """Ask for the next entity; the queue is there, be it empty, until the last one is published."""
        waiting: list[list[str]] = self._store.get(_QUEUE) or []
        if not waiting:
            self._store.put(_QUEUE, None)
            self._store.put(_PUBLISHED, True)
            return
        (fill, entity), *rest = waiting
        self._store.put(_QUEUE, rest)
        yield self._append(Republish(source=self._source, entity=entity, fill=fill))

    def _append(self, record: Republish) -> Output:
        key, value = control.encode(record)
        return Output(f"cdc.{self._source}", key, value, partition=0)


def _place(chunk: Republish) -> bytes:
    return _FILL + chunk.fill.encode()
