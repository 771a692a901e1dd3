"""Cores that serve nobody: a real-time thread on each, which only sleeps, tells when it was woken late."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from tempfile import TemporaryFile
from typing import IO

from bench.stalls.spans import Span

_SLEEP_SECONDS = 0.001
#: Woken later than this, it could not have been for any program: real-time threads go before all of them.
_LATE_SECONDS = 0.005
_PRIORITY = 50


class Cores:
    """
    Watches every core that this process may use. Use as a context manager where it is `allowed`; `spans` is what it has found.

    What keeps such a thread from its core is the kernel or the host of a virtual machine, which does not always say so
    as steal.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.processes: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Cores:
        for core in sorted(os.sched_getaffinity(0)):
            lines = TemporaryFile()
            watcher = [sys.executable, "-m", "bench.stalls.cores", str(core)]
            self.processes.append((subprocess.Popen(watcher, stdout=lines), lines))
        return self

    def __exit__(self, *_: object) -> None:
        for process, lines in self.processes:
            process.terminate()
            process.wait()
            lines.seek(0)
            for line in lines:
                core, begin, end = line.decode().split()
                what = f"core {core} serves nobody: kernel or host has it"
                self.spans.append(Span(what, float(begin), float(end)))
            lines.close()


def allowed() -> bool:
    """Tell whether this user may have real-time threads."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        return False
    os.sched_setscheduler(0, *before)
    return True


def watch(core: int) -> None:
    """Sleep on a core, and print when the sleep lasted too long: its number, begin and end in seconds since 1970."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    while True:
        due = time.time() + _SLEEP_SECONDS
        time.sleep(_SLEEP_SECONDS)
        if (now := time.time()) - due > _LATE_SECONDS:
            print(core, due, now, flush=True)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
