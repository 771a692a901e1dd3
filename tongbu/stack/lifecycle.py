"""Brings an instance up, service by service, and down again."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.instance import HOST, Instance
from tongbu.stack import data_folders, services
from tongbu.stack.artifacts import fetch
from tongbu.stack.display import Progress
from tongbu.stack.obituaries import last_words
from tongbu.stack.services import Service
from tongbu.stack.supervision import Supervisor

_READY_SECONDS = 120
_POLL_SECONDS = 0.1


def up(instance: Instance, progress: Progress, *, with_pipeline: bool = True) -> None:
    """Start what does not run, and wait until it can be used.

    Raise ServiceUnavailable when a service does not become ready, TongbuError when its port is taken or a tool is missing.
    """
    with _alone(instance):
        progress.tell("looking for the servers")
        programs = fetch(progress.tell)
        progress.tell("making the servers' data folders")
        data_folders.prepare(
            instance,
            programs,
            services.format_kafka(programs),
            services.kafka_environment(instance),
        )
        servers, own = services.servers(instance, programs), services.pipeline(instance)
        supervisor = Supervisor(instance)
        supervisor.start([*servers, *own])
        progress.tell("starting")
        _start(supervisor, servers, progress)
        progress.tell("preparing the databases")
        prepare_databases(
            instance.postgres_admin_dsn(), instance.mariadb_admin_dsn(), instance.environment()
        )
        if with_pipeline:
            progress.tell("starting")
            _start(supervisor, own, progress)


def prepare_databases(postgres_admin: str, mariadb_admin: str, environment: dict[str, str]) -> None:
    """Create databases, users, grants and the demo's tables; what is there stays."""
    if not importlib.util.find_spec("tongbu.world.setup"):
        return
    setup: Any = importlib.import_module("tongbu.world.setup")
    setup.prepare(postgres_admin, mariadb_admin, environment)


def down(instance: Instance, *, purge: bool = False) -> None:
    """Stop what this instance started, and only that; `purge` removes its folder with all data."""
    with _alone(instance):
        Supervisor(instance).stop(at_once=purge)
    if purge:
        for server in (instance.folder / "data").glob("*"):
            shutil.rmtree(server.resolve(), ignore_errors=True)
        shutil.rmtree(instance.folder)


def _start(supervisor: Supervisor, wanted: Sequence[Service], progress: Progress) -> None:
    """Start each service when those it needs, of the same call, are ready; return when all are."""
    waiting = {service.name: service for service in wanted}
    began: dict[str, float] = {}
    while waiting:
        for service in list(waiting.values()):
            if service.name not in began:
                if not waiting.keys() & set(service.needs):
                    _begin(supervisor, service)
                    began[service.name] = time.monotonic()
                    progress.service(service.name, "starting")
            elif trouble := _trouble(supervisor, service):
                progress.service(service.name, trouble)
                _give_up_late(service, supervisor, trouble, began[service.name])
            else:
                progress.service(service.name, "ready")
                del waiting[service.name]
        time.sleep(_POLL_SECONDS)


def _begin(supervisor: Supervisor, service: Service) -> None:
    process = supervisor.processes().get(service.name, {})
    if process.get("statename") != "RUNNING" and service.port and _taken(service.port):
        raise TongbuError(
            f"port {service.port}, which {service.name} of this instance uses, is taken by another program",
            "Stop that program, or use an instance with other ports: --instance NAME",
        )
    supervisor.start_process(service.name)


def _trouble(supervisor: Supervisor, service: Service) -> str:
    """Return why the service can't be used yet, "" when it can."""
    process = supervisor.processes().get(service.name, {})
    state = process.get("statename", "not running")
    if state in ("BACKOFF", "FATAL", "EXITED"):
        return f"died: {last_words(supervisor.logs, service.name)}"
    if state != "RUNNING":
        return "starting"
    try:
        service.ready()
    except Exception:  # each client has its own way to say "not yet"
        return "starting"
    return ""


def _give_up_late(service: Service, supervisor: Supervisor, trouble: str, began: float) -> None:
    if time.monotonic() - began > _READY_SECONDS:
        raise ServiceUnavailable(
            f"{service.name} is not ready after {_READY_SECONDS} s: {trouble}",
            f"Its log: {supervisor.logs / service.name}.log; `tongbu status` tells more.",
        )


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
