"""The processes of a stack that is harmed, by the supervisor's knowledge of them."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from bench.system import wait
from tongbu.instance import Instance
from tongbu.stack import artifacts, services
from tongbu.stack.supervision import Supervisor

#: Every process of a stack that may fail on its own.
SERVICES = (
    "postgres", "mariadb", "kafka", "registry", "connect",
    "processor", "watch", "sink-warehouse", "sink-oa", "sink-order-events", "webhook-receiver",
)  # fmt: skip
_BACK_SECONDS = 120.0
_STARTED = ("STARTING", "RUNNING")
#: A service that dies of its limit is started again without it; so soon it has the limit, too.
_LIMIT_SECONDS = 0.05


class Services:
    """
    The processes of an instance.

    What died is back when the supervisor has started it again, and a server only when it answers: until then the harm
    lasts. How long our own processes take to be of use again is theirs to answer for.
    """

    def __init__(self, instance: Instance) -> None:
        self._supervisor = Supervisor(instance)
        listed = [*services.servers(instance, artifacts.folder()), *services.pipeline(instance)]
        self._ready = {each.name: each.ready for each in listed}

    def kill(self, service: str) -> None:
        """`kill -9`; return when it is back."""
        before = self._pid(service)
        for process in _family(before):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._await_back(service, before)

    @contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT afterwards: it wakes up with what it had in hand."""
        frozen = _family(self._pid(service))
        _send(frozen, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(frozen, signal.SIGCONT)

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """Stop a service, and start it afterwards."""
        self._pid(service)
        self._supervisor.rpc.stopProcess(service)
        try:
            yield
        finally:
            self._supervisor.start_process(service)
            self._await_back(service)

    def without_disk(self, service: str, seconds: float) -> None:
        """Let no file grow that a service writes, as on a full disk, in every new start of it, too; then let it be back."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._limit(service, 0)
            time.sleep(_LIMIT_SECONDS)
        self._limit(service, resource.RLIM_INFINITY)
        self._await_back(service)

    def down(self) -> list[str]:
        """Give the services that do not run."""
        found = self._supervisor.processes()
        return [name for name in SERVICES if found[name]["statename"] != "RUNNING"]

    def _limit(self, service: str, size: int) -> None:
        pid = self._supervisor.processes()[service]["pid"]
        if pid:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def _pid(self, service: str) -> int:
        wait(f"{service} runs", lambda: service not in self.down(), _BACK_SECONDS)
        return int(self._supervisor.processes()[service]["pid"])

    def _await_back(self, service: str, before: int = 0) -> None:
        wait(f"{service} is back", lambda: self._is_back(service, before), _BACK_SECONDS)

    def _is_back(self, service: str, before: int) -> bool:
        found = self._supervisor.processes()[service]
        if found["statename"] not in _STARTED or found["pid"] == before:
            return False
        try:
            self._ready[service]()
        except Exception:  # each client has its own way to say "not yet"
            return False
        return True


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
