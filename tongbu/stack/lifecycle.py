"""Brings an instance up, service by service, and down again."""

from __future__ import annotations

import fcntl
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from schemas.errors import ServiceUnavailable, TongbuError
from streams.seal import KEY_FILE, new_key
from tongbu.instance import HOST, Instance, write_whole
from tongbu.stack import data_folders, services
from tongbu.stack.artifacts import complete_mysql, fetch
from tongbu.stack.display import Progress
from tongbu.stack.obituaries import Death, deaths
from tongbu.stack.services import Service
from tongbu.stack.supervision import Supervisor
from tongbu.world import setup as world

_READY_SECONDS = 120
#: So often a service may die while it starts; a server that isn't there yet is waited for, not died of.
_DEATHS = 3
_POLL_SECONDS = 0.1


def up(
    instance: Instance,
    progress: Progress,
    *,
    with_pipeline: bool = True,
    extras: Sequence[str] = (),
    rewire: Callable[[Service], Service] = lambda service: service,
) -> None:
    """Start what does not run, and wait until it can be used; `extras` are servers that start only when named (mysql).

    `rewire` may change how a service is run: the harness leads its connections through proxies.

    Raise ServiceUnavailable when a service does not become ready, TongbuError when its port is taken or a tool is missing.
    """
    with _alone(instance):
        progress.tell("looking for the servers")
        programs = fetch(progress.tell)
        if "mysql" in extras:
            complete_mysql(programs, progress.tell)
        progress.tell("making the servers' data folders")
        data_folders.prepare(
            instance,
            programs,
            services.format_kafka(programs),
            services.kafka_environment(instance),
            extras,
        )
        _make_key(instance)
        listed = [rewire(each) for each in services.servers(instance, programs)]
        own = [rewire(each) for each in services.pipeline(instance)]
        supervisor = Supervisor(instance)
        supervisor.start([*listed, *own])
        servers = [each for each in listed if not each.extra or each.name in extras]
        progress.tell("starting")
        _start(supervisor, servers, progress)
        progress.tell("preparing the databases")
        world.prepare(
            instance.postgres_admin_dsn(), instance.mariadb_admin_dsn(), instance.environment()
        )
        if with_pipeline:
            progress.tell("starting")
            _start(supervisor, own, progress)


def up_broker(instance: Instance, progress: Progress) -> None:
    """Start the broker alone, for what needs nothing else; raise as `up` does."""
    with _alone(instance):
        programs = fetch(progress.tell)
        kafka = services.kafka_environment(instance)
        data_folders.prepare_kafka(services.format_kafka(programs), kafka)
        broker = [each for each in services.servers(instance, programs) if each.name == "kafka"]
        supervisor = Supervisor(instance)
        supervisor.start(broker)
        progress.tell("starting")
        _start(supervisor, broker, progress)


def down(instance: Instance, *, purge: bool = False) -> None:
    """Stop what this instance started, and only that; `purge` removes its folder with all data."""
    with _alone(instance):
        Supervisor(instance).stop(at_once=purge)
    if purge:
        for server in (instance.folder / "data").glob("*"):
            shutil.rmtree(server.resolve(), ignore_errors=True)
        shutil.rmtree(instance.folder)


class _Attempt:
    """The start of one service, from the moment it is asked for until it is ready or given up."""

    def __init__(self, supervisor: Supervisor, service: Service) -> None:
        self._supervisor = supervisor
        self._service = service
        self._since = time.monotonic()
        self._deaths_before = len(self._deaths())
        _begin(supervisor, service)

    def trouble(self) -> str:
        """Return why the service can't be used yet, "" when it can. Raise ServiceUnavailable when it won't be."""
        trouble = self._answer()
        died = self._deaths()[self._deaths_before :]
        if trouble and died:
            trouble = f"died ({died[-1].reason}): {died[-1].said}"
        if trouble and len(died) >= _DEATHS:
            self._give_up(f"dies again and again: {trouble}")
        if trouble and time.monotonic() - self._since > _READY_SECONDS:
            self._give_up(f"is not ready after {_READY_SECONDS} s: {trouble}")
        return trouble

    def _answer(self) -> str:
        state = self._supervisor.processes().get(self._service.name, {}).get("statename")
        if state != "RUNNING":
            return "starting"
        try:
            self._service.ready()
        except Exception:  # each client has its own way to say "not yet"
            return "starting"
        return ""

    def _deaths(self) -> list[Death]:
        return [
            death for death in deaths(self._supervisor.logs) if death.service == self._service.name
        ]

    def _give_up(self, why: str) -> NoReturn:
        log = self._supervisor.logs / f"{self._service.name}.log"
        raise ServiceUnavailable(
            f"{self._service.name} {why}",
            f"Its log: {log}; it is tried further, see `tongbu status`.",
        )


def _start(supervisor: Supervisor, wanted: Sequence[Service], progress: Progress) -> None:
    """Start each service when those it needs, of the same call, are ready; return when all are."""
    waiting = {service.name: service for service in wanted}
    attempts: dict[str, _Attempt] = {}
    while waiting:
        for name, service in list(waiting.items()):
            if waiting.keys() & set(service.needs):
                continue
            if name not in attempts:
                attempts[name] = _Attempt(supervisor, service)
                progress.service(name, "starting")
            trouble = attempts[name].trouble()
            progress.service(name, trouble or "ready")
            if not trouble:
                del waiting[name]
        time.sleep(_POLL_SECONDS)


def _make_key(instance: Instance) -> None:
    """Make the key that seals dead letters; without it they keep no original."""
    key_file = instance.folder / KEY_FILE
    if not key_file.exists():
        write_whole(key_file, new_key(), mode=0o600)


def _begin(supervisor: Supervisor, service: Service) -> None:
    process = supervisor.processes().get(service.name, {})
    if process.get("statename") != "RUNNING" and service.port and _taken(service.port):
        raise TongbuError(
            f"port {service.port}, which {service.name} of this instance uses, is taken by another program",
            "Stop that program, or use an instance with other ports: --instance NAME",
        )
    supervisor.start_process(service.name)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def _alone(instance: Instance) -> Iterator[None]:
    """Keep a second `up` or `down` of the same instance waiting."""
    instance.folder.mkdir(parents=True, exist_ok=True)
    with (instance.folder / "lifecycle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
