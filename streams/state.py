"""
The state of a lane: row images, published versions and the input position, in one RocksDB.

Writes stay in memory until `commit`, which puts them and the input position on disk in one atomic write.
Reads see the writes that are not committed yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import Options, Rdict, WriteBatch

_pack = msgspec.msgpack.Encoder(decimal_format="string").encode
_unpack = msgspec.msgpack.Decoder().decode

_POSITION = b"sys\0position"
_MISSING: Any = object()


def join(*parts: str | bytes) -> bytes:
    """Compose a key; parts are separated by a zero byte, which neither names nor JSON keys contain."""
    return b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)


class State:
    """A key-value store with an overlay of uncommitted writes. Values are anything msgpack can hold."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._db = Rdict(str(folder), options=options)
        self._overlay: dict[bytes, Any] = {}
        stored = self._db.get(_POSITION)
        #: The next offset to read; None for a state that has seen nothing.
        self.position: int | None = int.from_bytes(stored, "big") if stored is not None else None

    def get(self, key: bytes) -> Any:
        """Give a value, or None."""
        value = self._overlay.get(key, _MISSING)
        if value is not _MISSING:
            return value
        stored = self._db.get(key)
        return None if stored is None else _unpack(stored)

    def put(self, key: bytes, value: Any) -> None:
        """Set a value; None removes it."""
        self._overlay[key] = value

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[tuple[bytes, Any]]:
        """Give up to `limit` entries under `prefix` whose rest is above `after`, in byte order of the keys."""
        fresh = {key: value for key, value in self._overlay.items() if key.startswith(prefix)}
        found: dict[bytes, Any] = {}
        for key, stored in self._stored(prefix, after):
            if limit is not None and len(found) >= limit + len(fresh):
                break
            found[key] = stored
        found |= {key: value for key, value in fresh.items() if not after or key > prefix + after}
        live = [key for key in sorted(found) if found[key] is not None]
        return [(key, self.get(key)) for key in live[:limit]]

    def _stored(self, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._db.items(from_key=prefix + after):
            if not key.startswith(prefix):
                return
            if after and key == prefix + after:
                continue
            yield key, value

    def commit(self, position: int) -> None:
        """Write everything since the last commit, with the next offset to read, at once."""
        batch = WriteBatch(raw_mode=True)
        for key, value in self._overlay.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, _pack(value))
        batch.put(_POSITION, position.to_bytes(8, "big"))
        self._db.write(batch)
        self._overlay.clear()
        self.position = position

    def discard(self) -> None:
        """Forget what is not committed."""
        self._overlay.clear()

    def close(self) -> None:
        """Release the folder for another owner."""
        self._db.close()
