"""How a stack is put together so that it can be harmed: its connections lead through links, its clocks through libfaketime."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.harm.clocks import Clocks
from bench.harm.links import Links
from tongbu.instance import HOST, Instance
from tongbu.stack.services import Service

#: Who calls whom: every connection of the pipeline that a network may break.
LINKS = (
    ("connect", "postgres"), ("connect", "mariadb"), ("connect", "kafka"),
    ("processor", "kafka"),
    ("sink-warehouse", "kafka"), ("sink-warehouse", "postgres"), ("sink-warehouse", "registry"),
    ("sink-oa", "kafka"), ("sink-oa", "mariadb"),
    ("sink-order-events", "kafka"), ("sink-order-events", "postgres"), ("sink-order-events", "webhook-receiver"),
)  # fmt: skip
LINK_NAMES = tuple(f"{client}>{server}" for client, server in LINKS)
_BROKER = "kafka"


class Wiring:
    """Makes a service's environment lead through links. A broker tells its clients where it is, so each link to it has a listener."""

    def __init__(self, instance: Instance, links: Links, clocks: Clocks) -> None:
        self._ports = {
            "postgres": instance.ports.postgres, "mariadb": instance.ports.mariadb, "kafka": instance.ports.kafka,
            "registry": instance.ports.registry, "webhook-receiver": instance.ports.webhook,
        }  # fmt: skip
        self._clocks = clocks
        self._listeners = dict(
            zip([client for client, server in LINKS if server == _BROKER], _free_ports(), strict=False)
        )  # fmt: skip
        self._links: dict[tuple[str, str], int] = {}
        for client, server in LINKS:
            upstream = self._listeners[client] if server == _BROKER else self._ports[server]
            self._links[client, server] = links.add(f"{client}>{server}", upstream)

    def rewire(self, service: Service) -> Service:
        """Give the service as it is to be run."""
        environment = dict(service.environment)
        command = service.command
        for (client, server), port in self._links.items():
            if client == service.name:
                environment = _redirected(environment, self._ports[server], port)
        if service.name == _BROKER:
            command = [*command, *self._listen(environment)]
        return replace(
            service, command=command, environment=environment | self._clocks.environment(service.name)
        )  # fmt: skip

    def _listen(self, environment: dict[str, str]) -> Sequence[str]:
        """Add a listener per link to the broker's environment; give what its command line says of them."""
        names = {client: client.upper().replace("-", "_") for client in self._listeners}
        for variable, ports in (
            ("TONGBU_KAFKA_LISTENERS", self._listeners),
            ("TONGBU_KAFKA_ADVERTISED", {name: self._links[name, _BROKER] for name in names}),
        ):
            added = [f"{names[client]}://{HOST}:{port}" for client, port in ports.items()]
            environment[variable] = ",".join([environment[variable], *added])
        known = ["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT"]
        protocols = ",".join([*known, *(f"{name}:PLAINTEXT" for name in names.values())])
        return ["--override", f"listener.security.protocol.map={protocols}"]


def _redirected(environment: Mapping[str, str], port: int, other: int) -> dict[str, str]:
    """Give an environment in which every address with one port, and every variable that is that port, has the other."""
    return {
        name: re.sub(rf"(?<=:){port}(?!\d)|^{port}$", str(other), value)
        for name, value in environment.items()
    }


def _free_ports() -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in LINKS]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
