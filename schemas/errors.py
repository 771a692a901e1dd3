"""Errors that a person has to act on. Each says where it happened and what to do."""

from __future__ import annotations

from pathlib import Path


class TongbuError(Exception):
    """A trouble that is the user's or the surroundings' to mend; shown as a message, without a traceback."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n  {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class DeclarationError(TongbuError):
    """A declaration (mapping, rule, binding, source) that can't be used, with its file and line."""

    def __init__(self, file: Path | str, line: int, message: str, remedy: str = "") -> None:
        super().__init__(f"{file}:{line}: {message}", remedy)
        self.file = str(file)
        self.line = line


class ServiceUnavailable(TongbuError):
    """A service that should be there does not answer; worth trying again."""
