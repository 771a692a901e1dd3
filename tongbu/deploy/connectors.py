"""Connectors: Debezium's configuration from connectors-config, through Kafka Connect's REST API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import httpx

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import schema_history, topics
from tongbu.deploy.deployment import Change, Deployment, connector_settings
from tongbu.sources import offsets

_START_SECONDS = 60
_NOT_FOUND = 404
_MODE = "snapshot.mode"
#: Fills a new schema history from the live catalog, at each start: a connector is not left in it (`capture_more`).
_RECOVERY = "recovery"
#: The pattern of no table: an empty list means all to Debezium.
_NO_TABLE = "(?!)"
STOPPED = "STOPPED"
#: States that pass.
STARTING = ("starting", "UNASSIGNED", "RESTARTING", STOPPED)
_CONFLICT = 409
#: Why MariaDB's and MySQL's connector does not start after its first snapshot was cut before it had a place in the log.
NO_PLACE = "Source offset 'file' parameter is missing"


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give the connectors that are missing, differ, or do not run."""
    with client(deployment) as connect:
        for source in deployment.sources:
            wanted = settings(deployment, source)
            answer = ask(connect, f"/connectors/{source}/config")
            if answer.status_code == _NOT_FOUND:
                detail = f"{len(deployment.tables_of(source))} tables"
                yield Change(
                    "connector", source, "create", detail, partial(_put, deployment, source, wanted)
                )
                continue
            live = _without_name(answer.json())
            if _missing(deployment, source, live):
                continue  # `capture_more` makes it as it is wanted
            if schema_history.TOPIC in live:  # a later one than the declared, after `capture_more`
                wanted[schema_history.TOPIC] = live[schema_history.TOPIC]
            if live != wanted:
                differing = sorted(
                    key for key in {*live, *wanted} if live.get(key) != wanted.get(key)
                )
                put = _leave_recovery if live[_MODE] == _RECOVERY else _put
                yield Change(
                    "connector",
                    source,
                    "configure",
                    ", ".join(differing),
                    partial(put, deployment, source, wanted),
                )
            elif (found := state(connect, source)) != "RUNNING":
                yield Change(
                    "connector", source, "restart", found, partial(restart, deployment, source)
                )


@lru_cache(maxsize=1)
def common_settings() -> dict[str, str]:
    """Give what all source connectors share."""
    return connector_settings("common.json")


def settings(deployment: Deployment, source: str) -> dict[str, str]:
    """Give a connector's whole configuration: shared, its own, and what follows from the declarations."""
    own = connector_settings(deployment.sources[source].connector)
    tables = ",".join(re.escape(table) for table in deployment.tables_of(source)) or _NO_TABLE
    return {
        **common_settings(),
        **own,
        "topic.prefix": source,
        "table.include.list": tables,
        "notification.sink.topic.name": f"{source}.notifications",
        "transforms.route.replacement": deployment.lane_topic(source),
    }


def reset(deployment: Deployment, source: str) -> None:
    """Stop a connector and forget where it stood: its next start snapshots all its tables."""
    with client(deployment) as connect:
        forget_place(connect, source)
        live = _without_name(ask(connect, f"/connectors/{source}/config").json())
        anew = live | {_MODE: common_settings()[_MODE]}
        if anew != live:
            send(connect, "PUT", f"/connectors/{source}/config", anew)


def resume(deployment: Deployment, source: str) -> None:
    """Start a stopped connector, and wait until it runs."""
    with client(deployment) as connect:
        send(connect, "PUT", f"/connectors/{source}/resume")
        _wait_until_running(connect, source)


def _check_offset(deployment: Deployment, source: str) -> None:
    """Refuse to start a connector that would go on behind a gap."""
    for loss in offsets.losses(deployment, source):
        raise TongbuError(f"source {source}: {loss.what}", loss.remedy)


def uncaptured(deployment: Deployment, source: str) -> list[str] | None:
    """Give the mapped tables that a source's connector does not capture; None where there is no connector yet."""
    with client(deployment) as connect:
        answer = ask(connect, f"/connectors/{source}/config")
    if answer.status_code == _NOT_FOUND:
        return None
    return _missing(deployment, source, answer.json())


def _missing(deployment: Deployment, source: str, live: dict[str, str]) -> list[str]:
    captured = live["table.include.list"].split(",")
    return [table for table in deployment.tables_of(source) if re.escape(table) not in captured]


def capture_more(deployment: Deployment, source: str) -> None:
    """
    Let a source's connector capture tables that are new to it.

    MariaDB's and MySQL's connector knows the columns of the tables in its schema history only. It gets a new history,
    which `recovery` fills from the live catalog; its place in the binlog stays.
    """
    with client(deployment) as connect:
        live = _without_name(ask(connect, f"/connectors/{source}/config").json())
    wanted = settings(deployment, source)
    if schema_history.TOPIC not in live:
        _put(deployment, source, wanted)
        return
    history = schema_history.after(wanted[schema_history.TOPIC], live[schema_history.TOPIC])
    topics.create_history(deployment, history)
    wanted[schema_history.TOPIC] = history
    _put(deployment, source, wanted | {_MODE: _RECOVERY})
    _leave_recovery(deployment, source, wanted)


def _leave_recovery(deployment: Deployment, source: str, wanted: dict[str, str]) -> None:
    """
    Go on from the new schema history as soon as it is complete.

    A start in `recovery` would take the columns of the catalog as it is then for rows from before a change of them,
    and fail for good (seen on 3.5.0 with a column added while the connector stood).
    """
    history, tables = wanted[schema_history.TOPIC], deployment.tables_of(source)
    schema_history.wait_for(deployment.bootstrap, history, tables)
    _put(deployment, source, wanted)


def _without_name(live: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in live.items() if key != "name"}


def _put(deployment: Deployment, source: str, wanted: dict[str, str]) -> None:
    _check_offset(deployment, source)
    with client(deployment) as connect:
        send(connect, "PUT", f"/connectors/{source}/config", wanted)
        _leave_stopped(connect, source)
        _wait_until_running(connect, source)


def failure(deployment: Deployment, source: str) -> str | None:
    """Give why a connector or its task failed; None where it did not, or where there is none."""
    with client(deployment) as connect:
        answer = connect.get(f"/connectors/{source}/status")
        status = {} if answer.is_error else answer.json()
    parts = [status["connector"], *status["tasks"]] if status else []
    return next(
        (_cause(part.get("trace", "")) for part in parts if part["state"] == "FAILED"), None
    )


def restart(deployment: Deployment, source: str) -> None:
    """
    Restart a connector and its task, and wait until it runs; raise TongbuError where it would go on behind a gap.

    One that has nothing to go on from begins anew.
    """
    _check_offset(deployment, source)
    if NO_PLACE in (failure(deployment, source) or ""):
        reset(deployment, source)
        resume(deployment, source)
        return
    with client(deployment) as connect:
        if not _leave_stopped(connect, source):
            send(connect, "POST", f"/connectors/{source}/restart?includeTasks=true")
        _wait_until_running(connect, source)


def _leave_stopped(connect: httpx.Client, source: str) -> bool:
    """Resume a connector that stands stopped, as one does whose `reset` was cut; tell whether it did. A restart would leave it so."""
    stands = state(connect, source) == STOPPED
    if stands:
        send(connect, "PUT", f"/connectors/{source}/resume")
    return stands


def forget(connect: httpx.Client, name: str) -> None:
    """Remove a connector and its offsets; raise ServiceUnavailable where it does not stop."""
    forget_place(connect, name)
    send(connect, "DELETE", f"/connectors/{name}")


def forget_place(connect: httpx.Client, name: str) -> None:
    """Stop a connector and remove its offsets; raise ServiceUnavailable where it does not stop."""
    send(connect, "PUT", f"/connectors/{name}/stop")
    end = time.monotonic() + _START_SECONDS
    while connect.delete(f"/connectors/{name}/offsets").is_error:
        if time.monotonic() > end:
            raise ServiceUnavailable(f"connector {name} does not stop", "Try again.")
        time.sleep(0.3)


def ask(connect: httpx.Client, path: str) -> httpx.Response:
    """Read, 404 included; raise ServiceUnavailable where a worker that rebalances (409) or is busy (500) stays so."""

    def is_wrong(answer: httpx.Response) -> bool:
        return not answer.is_success and answer.status_code != _NOT_FOUND

    answer = _answer(connect, "GET", path, is_wrong)
    if is_wrong(answer):
        raise ServiceUnavailable(
            f"Kafka Connect answers {path} with {answer.status_code}: {answer.text.strip()}"
        )
    return answer


def send(connect: httpx.Client, method: str, path: str, body: Any = None) -> None:
    """Send a request; a worker that rebalances answers 409 for a moment. Raise ServiceUnavailable where it is the worker's trouble."""
    answer = _answer(connect, method, path, lambda it: it.status_code == _CONFLICT, body)
    if answer.is_server_error:
        raise ServiceUnavailable(
            f"Kafka Connect answers {path} with {answer.status_code}: {_said(answer)}",
            "Its log says more; then run the command again.",
        )
    if answer.is_error:
        raise TongbuError(
            f"Kafka Connect refuses {path}: {_said(answer)}",
            "Correct connectors-config, and apply again.",
        )


def _said(answer: httpx.Response) -> str:
    """Give the message of an answer; what stands before Kafka Connect may answer with a page instead."""
    try:
        said = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        said = answer.text
    return str(said).strip()


def _answer(
    connect: httpx.Client,
    method: str,
    path: str,
    may_pass: Callable[[httpx.Response], bool],
    body: Any = None,
) -> httpx.Response:
    """Give the first answer that is not one that may pass, or the one that stays."""
    end = time.monotonic() + _START_SECONDS
    while may_pass(answer := connect.request(method, path, json=body)) and time.monotonic() <= end:
        time.sleep(0.3)
    return answer


def _wait_until_running(connect: httpx.Client, source: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while (found := state(connect, source)) != "RUNNING":
        if found not in STARTING:
            raise TongbuError(
                f"connector {source}: {found}", "Mend the cause, then `tongbu apply` again."
            )
        if time.monotonic() > end:
            raise ServiceUnavailable(
                f"connector {source} does not run after {_START_SECONDS} s: {found}"
            )
        time.sleep(0.2)


def state(connect: httpx.Client, source: str) -> str:
    """Give RUNNING when connector and task run, else what is wrong."""
    answer = connect.get(f"/connectors/{source}/status")
    if answer.is_error:
        return "starting"
    status = answer.json()
    for part in (status["connector"], *status["tasks"]):
        if part["state"] == "FAILED":
            return _cause(part.get("trace", ""))
        if part["state"] != "RUNNING":
            return str(part["state"])
    return "RUNNING" if status["tasks"] else "starting"


def _cause(trace: str) -> str:
    """Give the innermost cause of a Java stack trace, in one line."""
    lines = [line.strip() for line in trace.splitlines() if line and not line.startswith("\t")]
    causes = [line for line in lines if line.startswith("Caused by:")] or lines[:1] or ["failed"]
    return causes[-1].removeprefix("Caused by:").strip()


def refuse_namespace(deployment: Deployment) -> None:
    """
    Raise TongbuError where a deployment has a namespace: connectors, slots and places in a source's log have none.

    The live connector would be told to go on in the lane log of the namespace.
    """
    if deployment.namespace:
        raise TongbuError(
            f"namespace `{deployment.namespace}`: connectors have none, so this would be done to the live ones",
            "Leave --namespace (TONGBU_NAMESPACE) out; or let `tongbu plan` and `apply` make the other parts, each by its "
            "--only: topics, schemas, declarations or targets.",
        )


@contextmanager
def client(deployment: Deployment) -> Iterator[httpx.Client]:
    """Give a client of Kafka Connect; raise ServiceUnavailable where it does not answer, TongbuError for a namespace."""
    refuse_namespace(deployment)
    url = deployment.environment["CONNECT_URL"]
    try:
        with httpx.Client(base_url=url, timeout=20.0) as client:
            yield client
    except httpx.TransportError as error:
        raise ServiceUnavailable(
            f"Kafka Connect at {url} does not answer", "Is it up? `tongbu status` tells."
        ) from error
