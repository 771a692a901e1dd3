"""Which services an instance has: one table, in the order of their start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tongbu.instance import HOST, ROOT, Instance
from tongbu.stack import health
from tongbu.stack.data_folders import NATIVE, server_home
from tongbu.stack.java import find_java

BINDINGS = ROOT / "sink_writers/bindings"
#: A young collection of the broker stops all clients for 15 to 25 ms, every few seconds, with one thread and the usual sizes; for 6 to 7
#: with these (docs/performance.md, stalls).
_BROKER_COLLECTOR = ("-XX:+UseParallelGC", "-XX:-UseAdaptiveSizePolicy", "-Xmn64m", "-XX:MaxTenuringThreshold=2")  # fmt: skip


def _alive() -> None:
    """Answer for a process that has no port: that it stays up, which the supervisor sees, is its health."""


@dataclass(frozen=True)
class Service:
    """A process of the stack. `ready` raises until the service can be used; it starts when all of `needs` are ready."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], None] = _alive
    #: What `tongbu status` asks of one that runs, where that is more than whether it is ready.
    well: Callable[[], None] | None = None
    port: int | None = None
    needs: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    #: It must live so long before it counts as running.
    steady_seconds: int = 1
    #: A database server: as root it runs as `nobody`.
    drops_root: bool = False
    #: Starts only when it is asked for: `up --with NAME`.
    extra: bool = False


def _mysql_family(
    name: str, server: str, programs: Path, home: Path, port: int, **options: Any
) -> Service:
    """Return MariaDB or MySQL: they take the same options on their command lines."""
    base = f"{programs}/{name}"
    return Service(
        name=name,
        command=[
            f"{base}/bin/{server}", f"--defaults-file={home}/{name}.cnf", f"--basedir={base}",
            f"--lc-messages-dir={base}/share", f"--datadir={home}/data", f"--port={port}",
            f"--tmpdir={home}", f"--socket={home}/data/{name}.sock",
            f"--pid-file={home}/data/{name}.pid",
        ],
        folder=home,
        port=port,
        drops_root=True,
        **options,
    )  # fmt: skip


def servers(instance: Instance, programs: Path) -> list[Service]:
    """Return the databases, the broker, the registry and Connect."""
    ports = instance.ports
    java = str(find_java())
    postgres, mariadb, mysql = (
        server_home(instance, name) for name in ("postgres", "mariadb", "mysql")
    )
    return [
        Service(
            name="postgres",
            command=[
                f"{programs}/postgres/bin/postgres", "-D", f"{postgres}/data",
                "-c", f"config_file={postgres}/postgresql.conf", "-p", str(ports.postgres),
            ],
            folder=postgres,
            ready=partial(health.postgresql, instance.postgres_admin_dsn()),
            port=ports.postgres,
            stop_signal="INT",  # does not wait for clients to leave
            drops_root=True,
        ),
        _mysql_family(
            "mariadb", "mariadbd", programs, mariadb, ports.mariadb,
            ready=partial(health.mariadb, instance.mariadb_admin_dsn()),
        ),
        _mysql_family(
            "mysql", "mysqld", programs, mysql, ports.mysql,
            ready=partial(health.mariadb, instance.mysql_admin_dsn()),
            environment={"LD_LIBRARY_PATH": f"{programs}/mysql/lib"},
            extra=True,
        ),
        Service(
            name="kafka",
            command=[
                *_jvm(java, "512m", *_BROKER_COLLECTOR), "-cp", "kafka/*", "kafka.Kafka", str(NATIVE / "server.properties")
            ],
            folder=programs,
            environment=kafka_environment(instance),
            ready=partial(health.kafka, f"{HOST}:{ports.kafka}"),
            port=ports.kafka,
        ),
        Service(
            name="registry",
            command=[
                *_jvm(java, "64m", "-XX:+UseSerialGC"), "-XX:TieredStopAtLevel=1", "-jar",
                "registry.jar",
            ],
            folder=programs / "registry",
            environment=_registry_environment(instance),
            ready=partial(health.http, f"http://{HOST}:{ports.registry}/health/ready"),
            port=ports.registry,
        ),
        Service(
            name="connect",
            command=[
                *_jvm(java, "768m", "-XX:+UseSerialGC"), "-Duser.timezone=UTC", "-cp", "kafka/*", "org.apache.kafka.connect.cli.ConnectDistributed",
                str(ROOT / "connectors-config/worker.properties"),
            ],
            folder=programs,
            environment=instance.connect_environment()
            | {"TONGBU_CONNECT_LISTENER": f"http://{HOST}:{ports.connect}"},
            ready=partial(health.http, f"http://{HOST}:{ports.connect}/connectors"),
            port=ports.connect,
            needs=("kafka",),
        ),
    ]  # fmt: skip


def pipeline(instance: Instance) -> list[Service]:
    """Return our own processes: the processor, the watch, a sink writer per binding, and the demo's webhook receiver."""
    return [
        _own(instance, "webhook-receiver", port=instance.ports.webhook),
        _own(instance, "processor", "main", metrics=instance.ports.processor),
        _own(instance, "watch", metrics=instance.ports.watch),
        *(_own(instance, "sink", file.stem) for file in sorted(BINDINGS.glob("*.yaml"))),
    ]


def format_kafka(programs: Path) -> list[str]:
    """Return the command that makes the broker's storage."""
    tool = ["kafka.tools.StorageTool", "format", "--standalone", "--config"]
    return [
        str(find_java()),
        "-cp",
        f"{programs}/kafka/*",
        *tool,
        str(NATIVE / "server.properties"),
    ]


def kafka_environment(instance: Instance) -> dict[str, str]:
    """Return what docker/native/server.properties reads from the environment."""
    controller = f"{HOST}:{instance.ports.controller}"
    listener = f"PLAINTEXT://{HOST}:{instance.ports.kafka}"
    return {
        "TONGBU_KAFKA_CONTROLLER": controller,
        "TONGBU_KAFKA_LISTENERS": f"{listener},CONTROLLER://{controller}",
        "TONGBU_KAFKA_ADVERTISED": f"{listener},CONTROLLER://{controller}",
        "TONGBU_KAFKA_DATA": str(instance.folder / "data/kafka"),
    }


def _own(
    instance: Instance, kind: str, *name: str, port: int | None = None, metrics: int | None = None
) -> Service:
    well: Callable[[], None] | None = None
    if metrics:
        well = partial(health.process, f"http://{HOST}:{metrics}/healthz")
    elif kind == "sink":
        well = partial(health.sink_writer, instance.folder, *name)
    return Service(
        name="-".join(["sink", *name] if kind == "sink" else [kind]),
        command=[sys.executable, "-m", "tongbu.cli", "run", kind, *name],
        folder=ROOT,
        environment=instance.environment()
        | ({"TONGBU_METRICS": f"{HOST}:{metrics}"} if metrics else {}),
        ready=partial(health.port, port) if port else _alive,
        well=well,
        port=port,
        needs=("postgres", "mariadb", "kafka", "registry", "connect"),
        steady_seconds=3,
    )


def _registry_environment(instance: Instance) -> dict[str, str]:
    lines = (NATIVE / "registry.env").read_text().splitlines()
    settings = dict(
        line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")
    )
    # Without WRITE_DELAY=0 a registration that was answered can be lost, and its id given to another schema.
    store = f"jdbc:h2:file:{instance.folder}/data/registry/registry;WRITE_DELAY=0"
    return settings | {
        "REGISTRY_DATASOURCE_URL": store,
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(instance.ports.registry),
    }


def _jvm(java: str, heap: str, *collector: str) -> list[str]:
    """Return a JVM with a fixed heap, and how it collects garbage: small, and without surprises in its pauses."""
    logging = f"-Dlog4j2.configurationFile={NATIVE / 'log4j2.xml'}"
    return [java, *collector, f"-Xms{heap}", f"-Xmx{heap}", logging]
