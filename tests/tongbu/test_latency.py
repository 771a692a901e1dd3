"""What is said about latency."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink_writers import stage_log
from sink_writers.messages import Message
from sink_writers.stage_log import StageLog
from tongbu.latency import Tail, by_stage, passages, percentiles


def line(
    source: str, transaction: str, applied: int, target_tx: str | None = None
) -> dict[str, object]:
    return {
        "source": source,
        "transaction": transaction,
        "committed_at": 1_000,
        "captured": 3_000,
        "produced": 6_000,
        "applied": applied,
        "target_tx": target_tx,
    }


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles(float(value) for value in range(1, 1001)) == {
        "p50": 500.0,
        "p95": 950.0,
        "p99": 990.0,
        "p999": 999.0,
        "max": 1000.0,
    }


def test_nothing_measured_has_no_percentiles() -> None:
    assert percentiles([]) == {}


@given(st.lists(st.integers(0, 10**6).map(float), min_size=1))
def test_percentiles_grow_up_to_the_maximum(values: list[float]) -> None:
    found = list(percentiles(values).values())
    assert found == sorted(found)
    assert found[-1] == max(values)


def test_a_source_with_exact_commit_times_in_its_log_is_measured_by_them() -> None:
    (found,) = passages([line("erp", "7", 10_000)], {("erp", "7"): 1_500}, frozenset({"erp"}))
    assert found.milliseconds("total") == 9.0


def test_a_source_with_whole_seconds_in_its_log_is_measured_by_the_journal() -> None:
    (found,) = passages([line("oa", "0-1-7", 10_000)], {("oa", "0-1-7"): 1_500}, frozenset({"erp"}))
    assert found.milliseconds("total") == 8.5


def test_the_commit_time_of_the_target_counts_before_the_clock_of_the_sink() -> None:
    (found,) = passages(
        [line("erp", "7", 10_000, "99")], {("erp", "7"): 1_500}, frozenset({"erp"}), {"99": 8_000}
    )
    assert found.milliseconds("apply") == 2.0


def test_only_transactions_of_the_journal_count_and_a_repeat_counts_once() -> None:
    log = [line("erp", "7", 10_000), line("erp", "7", 90_000), line("erp", "8", 10_000)]
    (found,) = passages(log, {("erp", "7"): 1_500}, frozenset({"erp"}))
    assert found.applied == 10_000


def test_the_stages_add_up_to_the_total() -> None:
    stages = by_stage(passages([line("erp", "7", 10_000)], {("erp", "7"): 0}, frozenset({"erp"})))
    parts = [stages[name]["max"] for name in ("capture", "process", "apply")]
    assert sum(parts) == stages["total"]["max"] == 9.0


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    tail = Tail(file)
    assert tail.follow() == []
    file.write_bytes(b'{"a":1}\n{"a"')
    assert tail.follow() == [{"a": 1}]
    with file.open("ab") as more:
        more.write(b":2}\n")
    assert tail.follow() == [{"a": 2}]
    assert tail.lines == [{"a": 1}, {"a": 2}]


def test_what_stood_in_a_log_before_is_not_followed(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"a":1}\n')
    assert Tail(file).follow() == []


def message(offset: int) -> Message:
    return Message("erp", offset, "transaction", str(offset), None, ())


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage log has some four lines a file."""
    monkeypatch.setattr(stage_log, "MOST_BYTES", 800)


@pytest.mark.usefixtures("_small")
def test_a_stage_log_stays_small_and_keeps_its_latest_lines(tmp_path: Path) -> None:
    log = StageLog(tmp_path, "b")
    for number in range(100):
        log.write([message(number)], 1, 2, None)
    log.close()

    files = sorted((tmp_path / "stages").iterdir(), reverse=True)
    assert [each.name for each in files] == ["b.jsonl.1", "b.jsonl"]
    assert all(each.stat().st_size < 1200 for each in files)
    kept = [orjson.loads(line) for each in files for line in each.read_bytes().splitlines()]
    numbers = [line["lane_offset"] for line in kept]
    assert numbers == list(range(100 - len(numbers), 100))
    assert len(numbers) >= 4


@pytest.mark.usefixtures("_small")
def test_who_follows_a_stage_log_misses_and_doubles_no_line_when_it_is_turned_over(
    tmp_path: Path,
) -> None:
    log = StageLog(tmp_path, "b")
    log.write([message(0)], 1, 2, None)
    tail = Tail(tmp_path / "stages/b.jsonl")
    for number in range(1, 100):
        log.write([message(number)], 1, 2, None)
        if number % 3 == 0:
            tail.follow()

    assert [line["lane_offset"] for line in tail.lines] == list(range(1, 100))


@pytest.mark.usefixtures("_small")
def test_readings_of_one_binding_that_write_side_by_side_lose_no_line_when_one_turns_the_log_over(
    tmp_path: Path,
) -> None:
    tail = Tail(tmp_path / "stages/b.jsonl")
    logs = [StageLog(tmp_path, "b") for _ in range(3)]
    for number in range(99):
        logs[number % 3].write([message(number)], 1, 2, None)
        tail.follow()

    assert sorted(line["lane_offset"] for line in tail.lines) == list(range(99))
    assert sum(each.stat().st_size for each in (tmp_path / "stages").iterdir()) < 2 * 1200
