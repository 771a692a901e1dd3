"""How processing can fail: by record (a dead letter), or as a whole (the lane stops and says why)."""

from __future__ import annotations

from schemas.errors import TongbuError


class RecordError(Exception):
    """A record that can't be processed; becomes a dead letter. The message never holds values of the record."""

    def __init__(self, stage: str, code: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.code = code
        self.message = message


class LaneStopped(TongbuError):
    """A lane that must not go on: what it would produce could be wrong. A person has to decide."""
