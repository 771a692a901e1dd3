"""Kafka Connect as the harness uses it: connectors that are stopped and resumed, round after round."""

from __future__ import annotations

import time
from typing import Any

import httpx

from bench.system import wait
from schemas.errors import TongbuError

_CONFLICT = 409
_PAUSE_SECONDS = 0.2


class Connect:
    """A worker's REST interface."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30.0)

    def names(self) -> set[str]:
        """Give the connectors that are there."""
        return set(self._client.get("/connectors").raise_for_status().json())

    def failed(self) -> list[str]:
        """Give the connectors of which a part has failed; all where the worker does not answer."""
        try:
            status = self._client.get("/connectors", params={"expand": "status"}).json()
        except (httpx.HTTPError, ValueError):
            return ["connect does not answer"]
        return [
            name
            for name, each in status.items()
            if "FAILED"
            in [part["state"] for part in (each["status"]["connector"], *each["status"]["tasks"])]
        ]

    def configure(self, name: str, settings: dict[str, str]) -> None:
        """Create or change a connector, and wait until it runs; raise TongbuError where it is refused or fails."""
        self._send("PUT", f"/connectors/{name}/config", settings)
        self._await(name, "RUNNING")

    def resume(self, *names: str) -> None:
        """Let stopped connectors run, and wait until their tasks do."""
        for name in names:
            self._send("PUT", f"/connectors/{name}/resume")
        for name in names:
            self._await(name, "RUNNING")

    def stop(self, *names: str) -> None:
        """End the tasks of connectors; what they have done is committed before."""
        for name in names:
            self._send("PUT", f"/connectors/{name}/stop")
        for name in names:
            self._await(name, "STOPPED")

    def _send(self, method: str, path: str, body: Any = None) -> None:
        answer = self._client.request(method, path, json=body)
        while answer.status_code == _CONFLICT:  # the worker is rebalancing
            time.sleep(_PAUSE_SECONDS)
            answer = self._client.request(method, path, json=body)
        if answer.is_error:
            raise TongbuError(f"Kafka Connect refuses {path}: {answer.text[:500]}")

    def _await(self, name: str, state: str) -> None:
        wait(f"connector {name} is {state}", lambda: self._is(name, state), 60.0)

    def _is(self, name: str, state: str) -> bool:
        answer = self._client.get(f"/connectors/{name}/status")
        if answer.is_error:
            return False
        status = answer.json()
        for task in status["tasks"]:
            if task["state"] == "FAILED":
                raise TongbuError(f"connector {name} failed: {task.get('trace', '')[:1500]}")
        tasks = [task["state"] for task in status["tasks"]]
        wanted = bool(tasks) and set(tasks) == {state} if state == "RUNNING" else not tasks
        return bool(status["connector"]["state"] == state and wanted)
