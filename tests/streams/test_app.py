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
