"""What is said of stalls: slow neighbours are one, and what has to do with them takes a larger share of them than of the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.stalls.cores import Cores, allowed
from bench.stalls.pauses import _SITE, Pauses
from bench.stalls.spans import Span, shares, silences, stalls


def line(committed_ms: float, sink_ms: float) -> dict[str, float]:
    """A transaction that took 4 ms to the sink, and so long from there to its commit."""
    at = [committed_ms + ms for ms in (0, 1, 2, 3, 4, 4 + sink_ms)]
    stages = ("committed_at", "captured", "received", "produced", "consumed", "applied")
    return {stage: ms * 1000 for stage, ms in zip(stages, at, strict=True)}


def test_slow_neighbours_are_one_stall_and_its_slowest_hop_is_named() -> None:
    lines = [line(0, 1), line(10, 90), line(20, 80), line(400, 2), line(900, 50)]
    first, second = stalls(lines, 30)
    assert (first.transactions, first.slowest_ms, first.where) == (2, 94.0, "sink to commit")
    assert (first.span.begin, first.span.end) == pytest.approx((0.010, 0.104))
    assert second.transactions == 1


def test_a_source_that_commits_nothing_for_long_stood_still() -> None:
    (found,) = silences([line(0, 1), line(5, 1), line(105, 1)], 0.04)
    assert (found.begin, found.end) == pytest.approx((0.005, 0.105))


def test_what_is_met_by_stalls_more_often_than_by_chance_has_a_high_ratio() -> None:
    whole, stalled = Span("load", 0, 10), [Span("stall", 2, 3)]
    spans = [Span("sync", 2, 3), Span("cpu", 0, 5), Span("earlier", -2, -1)]
    found = {each["what"]: each for each in shares(spans, stalled, whole)}
    assert found.keys() == {"sync", "cpu"}
    assert (found["sync"]["share"], found["sync"]["share_in_stalls"], found["sync"]["ratio"]) == (0.1, 1.0, 10.0)  # fmt: skip
    assert found["cpu"]["ratio"] == 2.0


def test_a_jvm_log_gives_its_long_safepoints(tmp_path: Path) -> None:
    (tmp_path / "kafka.log").write_text(
        '[2026-01-05T09:00:00.500+0000] Safepoint "GenCollectForAllocation", Time since last: 1 ns, '
        "Reaching safepoint: 1 ns, At safepoint: 1 ns, Total: 120000000 ns\n"
        '[2026-01-05T09:00:01.000+0000] Safepoint "ICBufferFull", Total: 20000 ns\n'
    )
    (found,) = Pauses(tmp_path).spans()
    assert found.what == "kafka: safepoint GenCollectForAllocation"
    assert found.end - found.begin == pytest.approx(0.12)


def test_a_watched_process_notes_long_collections_of_garbage(tmp_path: Path) -> None:
    named = {"PYTHONPATH": str(_SITE), "TONGBU_PAUSES": str(tmp_path), "TONGBU_PAUSES_OF": "sink"}
    code = "import gc; kept = [[n] for n in range(2_000_000)]; gc.collect()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | named, check=True)
    assert {each.what for each in Pauses(tmp_path).spans()} == {"sink: garbage collector"}


@pytest.mark.skipif(not allowed(), reason="real-time threads are not allowed")
def test_a_real_time_thread_that_was_not_woken_tells_that_its_core_served_nobody() -> None:
    first = f"core {min(os.sched_getaffinity(0))} "
    with Cores() as cores:
        process, _ = cores.processes[0]
        while os.sched_getscheduler(process.pid) != os.SCHED_FIFO:  # it starts
            time.sleep(0.01)
        time.sleep(0.1)
        stopped = time.time()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    long = [
        each
        for each in cores.spans
        if each.what.startswith(first) and each.met(Span("stopped", stopped, stopped + 0.3)) > 0.25
    ]
    assert len(long) == 1
