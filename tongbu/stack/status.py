"""How each service of an instance is: running or why not, since when, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tongbu.instance import Instance
from tongbu.stack import artifacts, services
from tongbu.stack.obituaries import Death, deaths
from tongbu.stack.services import Service
from tongbu.stack.supervision import Supervisor

_STYLES = {"ready": "green", "not started": "dim", "stopped": "dim"}


@dataclass(frozen=True)
class State:
    """What is known of one service. `state`: ready, not answering, starting, dying, died, not started, stopped."""

    service: str
    state: str
    pid: int | None
    uptime_seconds: int | None
    restarts: int
    reason: str
    last_death: Death | None

    @property
    def well(self) -> bool:
        """Tell whether nobody has to look at it."""
        return self.state in _STYLES


_DEAD_SUPERVISOR = State(
    service="supervisord",
    state="died",
    pid=None,
    uptime_seconds=None,
    restarts=0,
    reason="what it ran is dead or not looked after; `tongbu up` starts all again",
    last_death=None,
)


def inspect(instance: Instance) -> list[State]:
    """Ask the supervisor and each service, all at the same time; a supervisor that died is told as one more service."""
    supervisor = Supervisor(instance)
    processes, died = supervisor.processes(), deaths(supervisor.logs)
    wanted = [*services.servers(instance, artifacts.folder()), *services.pipeline(instance)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        states = list(
            pool.map(lambda service: _state(service, processes.get(service.name), died), wanted)
        )
    return [_DEAD_SUPERVISOR, *states] if supervisor.died() else states


def report(states: Iterable[State]) -> RenderableType:
    """Return the states for a person, and below them what the dead had to say."""
    table = Table("service", "state", "pid", "up", "restarts", box=None, pad_edge=False)
    last_words = []
    for state in states:
        table.add_row(
            state.service,
            Text(
                ": ".join(filter(None, [state.state, state.reason])),
                _STYLES.get(state.state, "red"),
            ),
            str(state.pid or ""),
            "" if state.uptime_seconds is None else str(timedelta(seconds=state.uptime_seconds)),
            str(state.restarts or ""),
        )
        if death := state.last_death:
            last_words.append(f"{state.service} died at {death.at}: {death.reason}; its last line:")
            last_words.append(f"  {death.said}")
    return Group(table, Text("\n".join(["", *last_words])) if last_words else "")


def _state(service: Service, process: dict[str, Any] | None, died: list[Death]) -> State:
    own = [death for death in died if death.service == service.name]
    running = process is not None and process["statename"] == "RUNNING"
    state, reason = _answer(service) if running else (_standing(process), "")
    return State(
        service=service.name,
        state=state,
        pid=process["pid"] or None if process else None,
        uptime_seconds=process["now"] - process["start"] if process and running else None,
        restarts=len(own),
        reason=reason,
        last_death=own[-1] if own else None,
    )


def _answer(service: Service) -> tuple[str, str]:
    try:
        (service.well or service.ready)()
    except Exception as error:  # each client has its own
        return "not answering", str(error).strip().splitlines()[0]
    return "ready", ""


def _standing(process: dict[str, Any] | None) -> str:
    """Return the state of a process that does not run, in words."""
    if process is None or process["statename"] == "STOPPED":
        return "stopped" if process and process["start"] else "not started"
    return {"STARTING": "starting", "STOPPING": "stopping"}.get(process["statename"], "dying")
