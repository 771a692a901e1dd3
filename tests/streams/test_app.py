"""The processor as a process: it ends when it is told to, whatever Kafka does."""

from __future__ import annotations

import subprocess
import sys

_SCENE = """
import asyncio, faust
from streams.app import _Worker

class Stuck(faust.Worker):
    async def stop(self):
        await asyncio.sleep(3600)

class Ends(_Worker, Stuck):
    def __init__(self):
        self.patience = 0.1

asyncio.run(Ends().stop())
"""


def test_a_worker_whose_stop_waits_for_kafka_ends_after_its_patience() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCENE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "the next start goes on from the position on disk" in done.stdout + done.stderr


_FAILURE = """
import sys, structlog
from tongbu.run import console

def fail(row):
    raise KeyError("column")

console()
try:
    fail({"name": sys.argv[1]})
except KeyError:
    structlog.get_logger("x").exception("a lane can't go on", source="erp")
"""


def test_the_log_of_an_exception_says_where_it_was_without_the_values_of_variables() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FAILURE, "Zhang San"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "a lane can't go on" in done.stderr
    assert "in fail" in done.stderr
    assert "KeyError: 'column'" in done.stderr
    assert "Zhang San" not in done.stdout + done.stderr
