"""Why a service died: what supervisord saw, and the last thing the service said."""

from __future__ import annotations

from pathlib import Path

_TAIL_BYTES = 8192


def last_words(logs: Path, service: str) -> str:
    """Return the last line of a service's log that is not the inside of a stack trace."""
    lines = [
        line for line in _tail(logs / f"{service}.log") if line.strip() and not line[0].isspace()
    ]
    return lines[-1].strip() if lines else ""


def _tail(file: Path) -> list[str]:
    if not file.exists():
        return []
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()
