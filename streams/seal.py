"""
Seal: original bytes of a dead letter, readable only with the key file.

AES-SIV (RFC 5297) is deterministic: a repeat of a letter after a crash is byte-identical, and the
coordinates are authenticated with it.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: Name of the key file in the data folder.
KEY_FILE = "dead-letter.key"


class Seal:
    """Seals bytes with the key of a file; without a file nothing is kept."""

    def __init__(self, key_file: Path | None) -> None:
        self._cipher = AESSIV(key_file.read_bytes()) if key_file and key_file.exists() else None

    def seal(self, coordinates: str, data: bytes) -> bytes | None:
        """Give the sealed bytes; None without a key."""
        if self._cipher is None or not data:
            return None
        return self._cipher.encrypt(data, [coordinates.encode()])

    def open(self, coordinates: str, sealed: bytes) -> bytes:
        """Give the original bytes; raise cryptography's InvalidTag where key or coordinates are others."""
        if self._cipher is None:
            raise ValueError("there is no key file")
        return self._cipher.decrypt(sealed, [coordinates.encode()])


def new_key() -> bytes:
    """Make a key for a key file."""
    return AESSIV.generate_key(512)
