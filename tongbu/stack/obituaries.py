"""Why services died: the supervisor's event listener writes down what it saw and the last thing the service said.

supervisord itself forgets the exit status of a child as soon as it has started it again.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from supervisor import childutils

_TAIL_BYTES = 16384


@dataclass(frozen=True)
class Death:
    """One end of a process that nobody had asked for."""

    service: str
    at: str
    reason: str
    said: str


def deaths(logs: Path) -> list[Death]:
    """Return all deaths since supervisord was started, oldest first."""
    file = _book(logs)
    return (
        [Death(**json.loads(line)) for line in file.read_text().splitlines()]
        if file.exists()
        else []
    )


def forget(logs: Path) -> None:
    """Begin a new book."""
    _book(logs).unlink(missing_ok=True)


def last_words(logs: Path, service: str) -> str:
    """Return the last line of a service's log that is not the inside of a stack trace, nor librdkafka's where there is another."""
    lines = [
        line for line in _tail(logs / f"{service}.log") if line.strip() and not line[0].isspace()
    ]
    own = [line for line in lines if not line.startswith("%")]
    return (own or lines or [""])[-1].strip()


def listen(logs: Path) -> None:
    """Write down each death that supervisord tells of on stdin, for ever."""
    while True:
        _, payload = childutils.listener.wait(sys.stdin, sys.stdout)
        service = childutils.get_headers(payload)["processname"]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        death = Death(service, now, _reason(logs, service), last_words(logs, service))
        with _book(logs).open("a") as book:
            book.write(json.dumps(asdict(death), ensure_ascii=False) + "\n")
        childutils.listener.ok(sys.stdout)


def _reason(logs: Path, service: str) -> str:
    """Return the end as supervisord's log has it, e.g. "exit status 1" or "terminated by SIGKILL"."""
    ends = re.compile(rf"exited: {re.escape(service)} \((.*?)(?:; (?:not )?expected)?\)$")
    found = [match[1] for line in _tail(logs / "supervisord.log") if (match := ends.search(line))]
    return found[-1] if found else "ended"


def _book(logs: Path) -> Path:
    return logs / "deaths.jsonl"


def _tail(file: Path) -> list[str]:
    if not file.exists():
        return []
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()


if __name__ == "__main__":
    listen(Path(sys.argv[1]))
