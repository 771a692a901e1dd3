"""Harm to the services of a whole stack: each process killed or frozen, by the supervisor's knowledge of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil

from bench.system import wait
from tongbu.instance import Instance
from tongbu.stack.supervision import Supervisor

#: Every process of a stack that may fail on its own.
SERVICES = (
    "postgres", "mariadb", "kafka", "registry", "connect",
    "processor", "sink-warehouse", "sink-oa", "sink-order-events", "webhook-receiver",
)  # fmt: skip
_BACK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Harm:
    """One fault: what is done to which service, and for how long (0: at once)."""

    kind: str
    service: str
    seconds: float


def choose(rounds: int, seed: int, services: tuple[str, ...] = SERVICES) -> list[Harm]:
    """Give the faults of a run: each service in turn, in an order and with times that follow from the seed."""
    random = Random(seed)
    plan: list[Harm] = []
    while len(plan) < rounds:
        turn = [(kind, service) for service in services for kind in KINDS]
        random.shuffle(turn)
        plan += [Harm(kind, service, round(random.uniform(3, 9), 1)) for kind, service in turn]
    return plan[:rounds]


class Services:
    """The processes of an instance."""

    def __init__(self, instance: Instance) -> None:
        self._supervisor = Supervisor(instance)

    def do(self, harm: Harm) -> None:
        """Do it; return when it is over: the process was started again, or goes on."""
        KINDS[harm.kind](self, harm)

    def kill(self, harm: Harm) -> None:
        """`kill -9`; the supervisor starts it again."""
        before = self._pid(harm.service)
        for process in self._processes(before):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        wait(f"{harm.service} is started again", lambda: self._is_back(harm, before), _BACK_SECONDS)

    def freeze(self, harm: Harm) -> None:
        """SIGSTOP, and after a while SIGCONT: it wakes up with what it had in hand."""
        frozen = self._processes(self._pid(harm.service))
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in frozen:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(harm.seconds)

    def down(self) -> list[str]:
        """Give the services that do not run."""
        found = self._supervisor.processes()
        return [name for name in SERVICES if found[name]["statename"] != "RUNNING"]

    def _pid(self, service: str) -> int:
        wait(f"{service} runs", lambda: service not in self.down(), _BACK_SECONDS)
        return int(self._supervisor.processes()[service]["pid"])

    def _is_back(self, harm: Harm, before: int) -> bool:
        found = self._supervisor.processes()[harm.service]
        return bool(found["statename"] == "RUNNING" and found["pid"] != before)

    def _processes(self, pid: int) -> list[psutil.Process]:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]


KINDS: dict[str, Callable[[Services, Harm], None]] = {
    "kill": Services.kill,
    "freeze": Services.freeze,
}
