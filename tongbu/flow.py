"""How far the data is: where each lane stands, and how far each sink is behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.declarations import Binding, RelationalBinding, load_bindings, load_sources
from schemas.errors import TongbuError
from sink_writers import pulse, targets
from sink_writers.bindings import FOLDER, reads
from sink_writers.fills import Fill
from sink_writers.targets import SetAside
from tongbu import topics
from tongbu.instance import Instance, complete_environment


@dataclass(frozen=True)
class Flow:
    """A lane or a sink: how many records it has not finished, and why it stopped."""

    kind: str
    name: str
    behind: int | None
    state: str
    #: Canonical ids whose current state can't be published: `tongbu dlq list` names them.
    withheld: int = 0
    set_aside: tuple[SetAside, ...] = ()
    filling: tuple[Fill, ...] = ()
    #: Quarantined table -> why it is, and how many of its changes are kept.
    quarantined: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What to do about its state.
    remedy: str = ""

    @property
    def well(self) -> bool:
        """Tell whether nobody has to look at it."""
        return self.state == "running" and not self.quarantined


def inspect(instance: Instance) -> list[Flow]:
    """Ask the processor's own report and the broker; without a broker nothing is known."""
    bootstrap = instance.environment()["KAFKA_BOOTSTRAP"]
    file = instance.folder / "processor.json"
    told = orjson.loads(file.read_bytes()) if file.exists() else {}
    complete_environment(instance.name)
    asked: list[Callable[[], Flow]]
    asked = [partial(_lane, bootstrap, source, told.get(source, {})) for source in load_sources()]
    asked += [
        partial(_sink, instance.folder, bootstrap, each.value) for each in load_bindings(FOLDER)
    ]
    with ThreadPoolExecutor(len(asked)) as pool:  # what does not answer is waited for once
        return list(pool.map(lambda ask: ask(), asked))


def _lane(bootstrap: str, source: str, told: dict[str, Any]) -> Flow:
    behind = _behind(bootstrap, "tongbu-processor", f"cdc.{source}")
    state = told.get("stopped") or ("running" if told else "not read yet")
    quarantined = told.get("quarantined", {})
    return Flow("lane", source, behind, state, told.get("withheld", 0), quarantined=quarantined)


def _sink(data: Path, bootstrap: str, binding: Binding) -> Flow:
    name = binding.binding
    each = [_behind(bootstrap, group, topic) for topic, group in reads(binding).items()]
    behind = None if None in each else sum(filter(None, each))
    trouble, remedy = pulse.trouble(data, name)
    state = trouble or ("running" if pulse.is_running(data, name) else "not running")
    if not isinstance(binding, RelationalBinding):
        return Flow("sink", name, behind, state, remedy=remedy)
    try:
        found = targets.condition(binding)
    except TongbuError as error:
        return Flow("sink", name, behind, error.message, remedy=error.remedy)
    filling = tuple(each for each in found.fills if not each.is_done)
    return Flow("sink", name, behind, state, 0, tuple(found.set_aside), filling, remedy=remedy)


def _behind(bootstrap: str, group: str, topic: str) -> int | None:
    try:
        return topics.backlog(bootstrap, group, [topic])
    except TongbuError:
        return None


def report(flows: list[Flow]) -> RenderableType:
    """Give the flows for a person, below them what targets could not take yet and how far their fills are."""
    columns = ("flow", "behind", "withheld", "set aside", "state")
    table = Table(*columns, box=None, pad_edge=False)
    notes = []
    for flow in flows:
        table.add_row(
            f"{flow.kind} {flow.name}",
            "?" if flow.behind is None else f"{flow.behind:,}",
            f"{flow.withheld:,}" if flow.withheld else "",
            f"{apart:,}" if (apart := sum(each.count for each in flow.set_aside)) else "",
            Text(flow.state, "green" if flow.well else "red"),
        )
        if flow.remedy:
            notes.append(f"{flow.name}: {flow.remedy}")
        if flow.withheld:
            notes.append(f"{flow.name}: `tongbu dlq list` names what is withheld, and why")
        for each in flow.set_aside:
            waits = f" (waits for {each.waits_for})" if each.waits_for else ""
            notes.append(
                f"{flow.name}: {each.count:,} of {each.table} set aside since {each.since:%Y-%m-%d %H:%M:%S}: "
                f"{each.reason}{waits}"
            )
        notes += [
            f"{flow.name}: {table} is quarantined, {ward['kept']:,} changes kept: {ward['why']}; `tongbu drift` says more"
            for table, ward in flow.quarantined.items()
        ]
        notes += [
            f"{flow.name}: filling {fill.entity} from {fill.source}, {fill.records:,} records so far, at {fill.reached}"
            for fill in flow.filling
        ]
    return Group(table, Text("\n".join(["", *notes])) if notes else "")
