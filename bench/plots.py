"""Plots of a run: the distribution of latencies, and their course over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.rounds import Measured

mpl.use("svg")
from matplotlib import pyplot as plt


def draw(folder: Path, measured: Measured) -> None:
    """Write bench-distribution.svg and bench-timeline.svg."""
    loads = sorted({(load.tx_per_s, load.rows_per_tx) for load in measured.loads})
    if not loads:
        return
    for name, drawing in (("distribution", _distribution), ("timeline", _timeline)):
        figure, axes = plt.subplots(1, len(loads), figsize=(6 * len(loads), 4), squeeze=False)
        for axis, (rate, lines) in zip(axes[0], loads, strict=True):
            axis.set_title(f"{rate} transactions/s, header + {lines} lines")
            drawing(axis, measured, rate, lines)
            axis.legend()
            axis.grid(visible=True, alpha=0.3)
        figure.tight_layout()
        figure.savefig(folder / f"bench-{name}.svg")
        plt.close(figure)


def _distribution(axis: Any, measured: Measured, rate: int, lines: int) -> None:
    for system in dict.fromkeys(load.system for load in measured.loads):
        values = sorted(
            ms
            for load in measured.loads
            if (load.system, load.tx_per_s, load.rows_per_tx) == (system, rate, lines)
            for _, ms in load.latencies
        )
        shares = [(place + 1) / len(values) * 100 for place in range(len(values))]
        axis.plot(values, shares, label=system)
    axis.set_xscale("log")
    axis.set_xlabel("ms from commit to commit")
    axis.set_ylabel("% of transactions")


def _timeline(axis: Any, measured: Measured, rate: int, lines: int) -> None:
    for place, system in enumerate(dict.fromkeys(load.system for load in measured.loads)):
        label = system
        for load in measured.loads:
            if (load.system, load.tx_per_s, load.rows_per_tx) != (system, rate, lines):
                continue
            begin = load.latencies[0][0] - load.round * 0.0
            times = [at - begin for at, _ in load.latencies]
            axis.scatter(
                times, [ms for _, ms in load.latencies], s=3, color=f"C{place}", label=label
            )
            label = "_nolegend_"
    axis.set_yscale("log")
    axis.set_xlabel("seconds of the load (all rounds)")
    axis.set_ylabel("ms from commit to commit")
