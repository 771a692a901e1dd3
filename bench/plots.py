"""Plots of a run: the distribution of latencies, and their course over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.figures import Load
from bench.rounds import Measured

mpl.use("svg")
from matplotlib import pyplot as plt

_COLUMNS = 3


def draw(folder: Path, measured: Measured) -> None:
    """Write bench-distribution.svg and bench-timeline.svg."""
    loads = sorted({(load.path, load.tx_per_s, load.rows_per_tx) for load in measured.loads})
    if not loads:
        return
    for name, drawing in (("distribution", _distribution), ("timeline", _timeline)):
        columns = min(_COLUMNS, len(loads))
        rows = math.ceil(len(loads) / columns)
        size = (6 * columns, 4 * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for axis in axes.flat[len(loads) :]:
            axis.remove()
        for axis, key in zip(axes.flat, loads, strict=False):
            path, rate, lines = key
            axis.set_title(f"{path}, {rate} transactions/s, {lines} lines")
            drawing(
                axis,
                [
                    each
                    for each in measured.loads
                    if (each.path, each.tx_per_s, each.rows_per_tx) == key
                ],
            )
            axis.legend()
            axis.grid(visible=True, alpha=0.3)
        figure.tight_layout()
        figure.savefig(folder / f"bench-{name}.svg")
        plt.close(figure)


def _distribution(axis: Any, loads: list[Load]) -> None:
    for system in dict.fromkeys(load.system for load in loads):
        values = sorted(ms for load in loads if load.system == system for _, ms in load.latencies)
        shares = [(len(values) - place) / len(values) * 100 for place in range(len(values))]
        axis.plot(values, shares, label=system)
    axis.set_xscale("log")
    axis.set_yscale("log")  # the tail is what differs
    axis.set_xlabel("ms from commit to commit")
    axis.set_ylabel("% of transactions that took at least so long")


def _timeline(axis: Any, loads: list[Load]) -> None:
    for place, system in enumerate(dict.fromkeys(load.system for load in loads)):
        label = system
        for load in loads:
            if load.system != system:
                continue
            begin = load.latencies[0][0]
            times = [at - begin for at, _ in load.latencies]
            values = [ms for _, ms in load.latencies]
            axis.scatter(times, values, s=3, color=f"C{place}", label=label, rasterized=True)
            label = "_nolegend_"
    axis.set_yscale("log")
    axis.set_xlabel("seconds of the load (all rounds)")
    axis.set_ylabel("ms from commit to commit")
