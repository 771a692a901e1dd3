"""The records of a message that came in several parts: they wait on disk, and one part at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sink_writers.messages import Record


class Parts(Collection["Record"]):
    """Parts as they came, in a file without a name; `read` makes the records of one."""

    def __init__(self, read: Callable[[bytes], tuple[Record, ...]]) -> None:
        self._read = read
        self._file = TemporaryFile()  # noqa: SIM115 - it ends with this object
        self._sizes: list[int] = []
        self._count = 0

    def add(self, value: bytes, count: int) -> None:
        """Keep a part that has so many records."""
        self._file.write(value)
        self._sizes.append(len(value))
        self._count += count

    def each(self) -> Iterator[tuple[Record, ...]]:
        """Give the records part by part."""
        begin = 0
        for size in self._sizes:
            self._file.seek(begin)
            yield self._read(self._file.read(size))
            begin += size

    def __iter__(self) -> Iterator[Record]:
        for records in self.each():
            yield from records

    def __len__(self) -> int:
        return self._count

    def __contains__(self, record: object) -> bool:
        return any(record == each for each in self)
