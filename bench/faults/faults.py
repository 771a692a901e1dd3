"""The table of faults: each does its harm and leaves everything running again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable

from bench.faults.arena import SESSION_SECONDS, Arena

#: A fault gets the arena and the run's own chance.
Fault = Callable[[Arena, random.Random], None]


def kill(arena: Arena, chance: random.Random) -> None:
    """`kill -9` of one worker, which is started again at once."""
    worker = chance.choice(arena.workers)
    worker.end(signal.SIGKILL)
    worker.start()


def kill_while_starting(arena: Arena, chance: random.Random) -> None:
    """`kill -9`, and again while the lanes are being opened."""
    worker = chance.choice(arena.workers)
    for pause in (chance.uniform(0.3, 1.5), 0.0):
        worker.end(signal.SIGKILL)
        worker.start()
        time.sleep(pause)


def kill_all(arena: Arena, _: random.Random) -> None:
    """`kill -9` of all workers at once."""
    for worker in arena.workers:
        worker.end(signal.SIGKILL)
    for worker in arena.workers:
        worker.start()


def freeze(arena: Arena, chance: random.Random) -> None:
    """SIGSTOP beyond the session: another worker takes over, then the first wakes up in mid-batch."""
    worker = chance.choice(arena.workers)
    worker.signal(signal.SIGSTOP)
    time.sleep(SESSION_SECONDS + chance.uniform(1.0, 4.0))
    worker.signal(signal.SIGCONT)


def stop(arena: Arena, chance: random.Random) -> None:
    """SIGTERM: a clean end, and a new start."""
    worker = chance.choice(arena.workers)
    worker.stop()
    worker.start()


def leave(arena: Arena, chance: random.Random) -> None:
    """A worker dies and stays away: the other takes its lanes over; then it comes back."""
    worker = chance.choice(arena.workers)
    worker.end(signal.SIGKILL)
    time.sleep(SESSION_SECONDS + chance.uniform(2.0, 4.0))
    worker.start()


def lose_disk(arena: Arena, chance: random.Random) -> None:
    """A worker dies and its states with it: checkpoint and lane log bring them back."""
    worker = chance.choice(arena.workers)
    worker.end(signal.SIGKILL)
    shutil.rmtree(worker.folder / "state", ignore_errors=True)
    worker.start()


def kill_broker(arena: Arena, _: random.Random) -> None:
    """`kill -9` of the broker, which its supervisor starts again."""
    os.kill(arena.broker_pid(), signal.SIGKILL)
    arena.wait_for_broker()


def broker_away(arena: Arena, chance: random.Random) -> None:
    """The broker dies and stays away for longer than a session: workers wait in place."""
    with arena.without_broker():
        time.sleep(SESSION_SECONDS + chance.uniform(2.0, 6.0))


def stop_without_broker(arena: Arena, chance: random.Random) -> None:
    """SIGTERM while the broker is away: the worker ends all the same, within a session."""
    worker = chance.choice(arena.workers)
    with arena.without_broker():
        time.sleep(chance.uniform(0.2, SESSION_SECONDS + 4.0))
        worker.stop()
    worker.start()


#: A new fault is a function and a line here.
FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill_while_starting": kill_while_starting,
    "kill_all": kill_all,
    "freeze": freeze,
    "stop": stop,
    "leave": leave,
    "lose_disk": lose_disk,
    "kill_broker": kill_broker,
    "broker_away": broker_away,
    "stop_without_broker": stop_without_broker,
}
