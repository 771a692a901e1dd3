"""
Waiting: a lane that meets another incarnation of its source keeps what it reads until a person says that it is meant.

The record that says so, `incarnation`, stands behind what it is about. So the lane reads on to it, without doing
anything, and then does all of it, in order, as if it had been read after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from streams.records import LaneRecord
from streams.stages.image import Store

_WHY, _RECORDS = b"sys\0waiting", b"wai\0"


class Waiting:
    """The records that wait, as the lane's state has them; `why` is None where nothing does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.why: str | None = store.get(_WHY)

    def begin(self, why: str, record: LaneRecord) -> None:
        """Wait, from this record on."""
        self._set(why)
        self.add(record)

    def add(self, record: LaneRecord) -> None:
        """Keep a record."""
        kept = [record.topic, record.timestamp, record.key, record.value, record.headers]
        self._store.put(_RECORDS + record.offset.to_bytes(8, "big"), kept)

    def end(self) -> Iterator[LaneRecord]:
        """Wait no longer, and give what was kept; one that has to wait again may be kept again."""
        self._set(None)
        for place, (topic, timestamp, key, value, headers) in self._store.iterate(_RECORDS):
            self._store.put(place, None)
            offset = int.from_bytes(place.removeprefix(_RECORDS), "big")
            pairs = tuple((name, content) for name, content in headers)
            yield LaneRecord(topic, offset, timestamp, key, value, pairs)

    def _set(self, why: str | None) -> None:
        self.why = why
        self._store.put(_WHY, why)
