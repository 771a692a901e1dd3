"""A list that moves to a temporary file once it is long: appended to, then read from its start as often as needed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Generic, TypeVar

Item = TypeVar("Item")

#: So many items are kept in memory.
IN_MEMORY = 1_000


class Spool(Generic[Item]):
    """Holds picklable items; its file has no name, and vanishes with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fresh: list[Item] = []
        self._file: IO[bytes] | None = None
        self._count = 0

    def append(self, item: Item) -> None:
        """Add an item."""
        self._fresh.append(item)
        self._count += 1
        if len(self._fresh) >= IN_MEMORY:
            if self._file is None:
                self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115  it lives as long as the list
            self._file.seek(0, 2)
            pickle.dump(self._fresh, self._file, pickle.HIGHEST_PROTOCOL)
            self._fresh = []

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        if self._file is not None:
            place, end = 0, self._file.seek(0, 2)
            while place < end:
                self._file.seek(place)
                chunk: list[Item] = pickle.load(self._file)  # noqa: S301  what this object has written
                place = self._file.tell()
                yield from chunk
        yield from self._fresh
