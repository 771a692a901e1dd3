"""What is said of a binlog and of what capture has stored of it."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import Mock

import pytest

from tongbu.sources.findings import Finding
from tongbu.sources.mysql import binlog_finding

WEEK = 7 * 86_400


def found(offset: dict[str, Any], *files: tuple[str, int]) -> Finding:
    cursor = Mock()
    cursor.fetchall.return_value = files
    return binlog_finding("oa", cursor, offset, WEEK)


def test_what_capture_stores_first_after_its_start_has_no_time_and_is_no_alarm() -> None:
    finding = found({"file": "b.1", "pos": 10, "event": 7}, ("b.1", 500))

    assert finding.level == "ok"
    assert "binlog_margin_seconds" not in finding.figures


@pytest.mark.parametrize(("age", "level"), [(60, "ok"), (WEEK - 3600, "alarm")])
def test_what_is_soon_purged_is_an_alarm(age: int, level: str) -> None:
    finding = found({"file": "b.1", "pos": 10, "ts_sec": time.time() - age}, ("b.1", 500))

    assert finding.level == level
    assert finding.figures["binlog_margin_seconds"] == pytest.approx(WEEK - age, abs=5)


def test_a_loss_of_what_has_no_time_names_none() -> None:
    what = found({"file": "b.1", "pos": 10}, ("b.2", 500)).what
    assert "pos 10 (its time is not known) are lost" in what
