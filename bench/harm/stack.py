"""A stack that is harmed, and what is done to it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.harm.clocks import Clocks
from bench.harm.links import Links
from bench.harm.services import Services
from tongbu.instance import Instance


@dataclass(frozen=True, slots=True)
class Harm:
    """One fault: what is done to what, and for how long where it lasts."""

    kind: str
    target: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack with everything that harm can be done by; `environment` leads to the services directly."""

    instance: Instance
    environment: dict[str, str]
    services: Services
    links: Links
    clocks: Clocks


def last(harm: Harm) -> None:
    """Let a fault last."""
    time.sleep(harm.seconds)
