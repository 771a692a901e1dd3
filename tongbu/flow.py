"""How far the data is: where each lane stands, and how far each sink is behind."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from rich.table import Table
from rich.text import Text

from schemas.declarations import load_bindings, load_sources
from schemas.errors import TongbuError
from sink_writers.bindings import FOLDER
from tongbu import topics
from tongbu.accounting import TRANSACTIONS
from tongbu.instance import Instance


@dataclass(frozen=True)
class Flow:
    """A lane or a sink: how many records it has not finished, and why it stopped."""

    kind: str
    name: str
    behind: int | None
    state: str
    dead_letters: int = 0

    @property
    def well(self) -> bool:
        """Tell whether nobody has to look at it."""
        return self.state == "running"


def inspect(instance: Instance) -> list[Flow]:
    """Ask the processor's own report and the broker; without a broker nothing is known."""
    bootstrap = instance.environment()["KAFKA_BOOTSTRAP"]
    file = instance.folder / "processor.json"
    told = orjson.loads(file.read_bytes()) if file.exists() else {}
    flows = []
    for source in load_sources():
        lane = told.get(source, {})
        behind = _behind(bootstrap, "tongbu-processor", f"cdc.{source}")
        state = lane.get("stopped") or ("running" if lane else "not read yet")
        flows.append(Flow("lane", source, behind, state, lane.get("dead_letters", 0)))
    for declared in load_bindings(FOLDER):
        name = declared.value.binding
        flows.append(
            Flow("sink", name, _behind(bootstrap, f"sink-{name}", TRANSACTIONS), "running")
        )
    return flows


def _behind(bootstrap: str, group: str, topic: str) -> int | None:
    try:
        return topics.backlog(bootstrap, group, [topic])
    except TongbuError:
        return None


def report(flows: list[Flow]) -> Table:
    """Give the flows for a person."""
    table = Table("flow", "behind", "dead letters", "state", box=None, pad_edge=False)
    for flow in flows:
        table.add_row(
            f"{flow.kind} {flow.name}",
            "?" if flow.behind is None else f"{flow.behind:,}",
            str(flow.dead_letters or ""),
            Text(flow.state, "green" if flow.well else "red"),
        )
    return table
