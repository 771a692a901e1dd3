"""How processing can fail: by record (a dead letter), or as a whole (the lane stops and says why)."""

from __future__ import annotations

from typing import Any

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Give what a spool needs: an exception pickles only what it was printed with."""
        return RecordError, (self.stage, self.code, self.message, self.table)


class OtherIncarnationError(Exception):
    """A transaction stands at a log place that its server has passed: the server was replaced or restored."""


class LaneStopped(TongbuError):
    """A lane that must not go on: what it would produce could be wrong. A person has to decide."""
