"""A Kafka Connect that answers as told, in place of the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tongbu.deploy import connectors
from tongbu.deploy.deployment import Deployment


def install(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]
) -> None:
    """Have every client of Kafka Connect ask `answer`."""

    @contextmanager
    def client(_: Deployment) -> Iterator[httpx.Client]:
        with httpx.Client(
            base_url="http://connect", transport=httpx.MockTransport(answer)
        ) as connect:
            yield connect

    monkeypatch.setattr(connectors, "client", client)
