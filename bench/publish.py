"""The README's figures: made from a report of `make bench`, which is kept in docs/bench.json, so that a test can compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.figures import PATH
from schemas.errors import TongbuError
from tongbu.instance import ROOT, run_folder
from tongbu.reports import write_report

README, KEPT = ROOT / "README.md", ROOT / "docs/bench.json"
_BEGIN, _END = "<!-- figures: python -m bench publish -->", "<!-- end of figures -->"
#: Of a report this much is kept.
_KEPT = ("at", "command", "machine", "versions", "definitions", "systems", "peer_tuning", "runs", "backlog", "ratio", "idle_cpu_percent", "memory_mib", "scaling", "parity", "seconds")  # fmt: skip


def publish() -> Path:
    """Keep the latest report and write its table into the README; raise TongbuError where there is none, rows differed, or no peer ran."""
    file = run_folder() / "reports/bench.json"
    if not file.exists():
        raise TongbuError(f"there is no {file}", "`make bench` makes it.")
    report = json.loads(file.read_text(encoding="utf-8"))
    if wrong := {name for name, said in report["parity"].items() if said != "equal"}:
        raise TongbuError(f"rows differ: {', '.join(sorted(wrong))}", "No figure of that run counts.")  # fmt: skip
    if "backlog" not in report["ratio"]:
        raise TongbuError("that report does not have both systems from PostgreSQL to PostgreSQL", "`make bench` makes one that has.")  # fmt: skip
    write_report(KEPT, {name: report[name] for name in _KEPT if name in report})
    README.write_text(with_figures(README.read_text(encoding="utf-8"), report), encoding="utf-8")
    return README


def with_figures(text: str, report: dict[str, Any]) -> str:
    """Give a text with the figures of a report between its two marks; raise TongbuError where it has none."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise TongbuError("the README has no place for figures", f"Put {_BEGIN} and {_END} where they shall stand.")  # fmt: skip
    return f"{before}{_BEGIN}\n{figures(report)}\n{_END}{after}"


def figures(report: dict[str, Any]) -> str:
    """Give the table: each load and the backlog, ours beside the tuned peer's, from PostgreSQL to PostgreSQL."""
    ours, peer = "tongbu", "debezium-jdbc"
    runs = {
        (r["system"], r["tx_per_s"]): r
        for r in report["runs"]
        if (r["path"], r["rows_per_tx"]) == (PATH, 2)
    }
    lines = ["| PostgreSQL to PostgreSQL, header + 2 lines | Tongbu | Debezium's JDBC sink, tuned | ratio |", "|---|---|---|---|"]  # fmt: skip
    for rate in sorted({rate for _, rate in runs}):
        cells = [_latency(runs.get((name, rate), {})) for name in (ours, peer)]
        ratios = [report["ratio"].get(f"{name}_{rate}") for name in ("p50", "p99")]
        said = " / ".join(f"{each:.2f}" for each in ratios if each is not None)
        lines.append(f"| {rate} transactions/s: p50 / p99 | {' | '.join(cells)} | {said} |")
    rates = {line["system"]: line for line in report["backlog"] if line["path"] == PATH}
    for title, key, ratio, form in (
        ("backlog, rows/s", "rows_per_s", "backlog", "{:,}"),
        ("CPU seconds per 1,000 rows, everything", "cpu_s_per_1000_rows", "cpu", "{:.3f}"),
    ):
        cells = [form.format(rates[name][key]) if name in rates else "" for name in (ours, peer)]
        lines.append(f"| {title} | {' | '.join(cells)} | {report['ratio'].get(ratio, '')} |")
    machine, day = report["machine"], report["at"][:10]
    rounds = max((run["rounds"] for run in report["runs"]), default=0)
    said = f"`{report['command']}` on {day}, {machine['cores']} cores for everything, medians of {rounds} interleaved rounds"
    return "\n".join([*lines, "", f"{said}; all of it, and how: [docs/benchmark.md](docs/benchmark.md)."])  # fmt: skip


def _latency(run: dict[str, Any]) -> str:
    if not run:
        return ""
    return "saturated" if run.get("saturated") else f"{run['p50']:.1f} / {run['p99']:.1f} ms"
