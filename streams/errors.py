"""How processing can fail: by record (a dead letter), or as a whole (the lane stops and says why)."""

from __future__ import annotations

from schemas.errors import TongbuError


class RecordError(Exception):
    """
    A record that can't be processed; becomes a dead letter. The message never holds values of the record.

    `table` is the source table whose value is at fault, where that is known.
    """

    def __init__(self, stage: str, code: str, message: str, table: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.code = code
        self.message = message
        self.table = table


class OtherIncarnationError(Exception):
    """A transaction stands at a log place that its server has passed: the server was replaced or restored."""


class LaneStopped(TongbuError):
    """A lane that must not go on: what it would produce could be wrong. A person has to decide."""
