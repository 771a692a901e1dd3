"""The processor's crash rounds: what their traffic is like, and why a worker ended that nobody had harmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.faults import arena
from bench.faults.arena import Arena, Worker
from bench.faults.traffic import Traffic
from schemas.errors import ServiceUnavailable


def _ended(folder: Path, script: str) -> Worker:
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=log)
    process.wait(30)
    return Worker("w1", folder, {}, process)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('no room on disk'); raise SystemExit(1)", ["w1 ended with 1: no room on disk"]),
        ("print('frozen'); raise SystemExit(72)", []),
        ("import os; os.kill(os.getpid(), 9)", []),
    ],
)
def test_a_worker_that_ends_by_itself_leaves_its_last_words_and_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: list[str]
) -> None:
    worker, started = _ended(tmp_path, script), []
    monkeypatch.setattr(worker, "start", lambda: started.append(True))

    worker.keep()

    assert worker.last_words == said
    assert started == [True]


def test_a_broker_that_does_not_run_has_no_process_to_be_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Process 0 would be the harness itself, with all that it has started."""
    restarting = SimpleNamespace(processes=lambda: {"kafka": {"pid": 0}})
    monkeypatch.setattr(arena, "Supervisor", lambda _: restarting)
    with pytest.raises(ServiceUnavailable, match="does not run"):
        Arena.broker_pid(SimpleNamespace(instance=None))  # type: ignore[arg-type]


def test_a_killed_capture_repeats_transactions_before_its_last_one_too() -> None:
    traffic, ends = Traffic("erp", "t1", 1), []
    for _ in range(500):
        traffic.step()  # what is written is sent at once
        ends += [each.value for each in traffic.take() if b'"status":"END"' in (each.value or b"")]

    assert len(set(ends)) == 500
    assert [end for place, end in enumerate(ends) if end in ends[: max(place - 1, 0)]]
