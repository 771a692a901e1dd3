"""The report: `bench.json` for programs, a Markdown table for people, plots."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import figures
from bench.peer import TUNED
from bench.rounds import FULL, Measured, Plan
from bench.system import System
from tongbu.latency import percentiles
from tongbu.stack.artifacts import POM

#: Those that are measured with.
_SERVERS = ("kafka", "debezium", "apicurio", "postgresql", "mariadb")
_DEFINITIONS = {
    "latency": "ms from the source transaction's commit to the commit of its last row in the target; both are "
    "pg_xact_commit_timestamp of one server, so one clock",
    "load": "orders of a header and `rows_per_tx` lines, open loop (Poisson), 4 connections; the first "
    f"{figures.LEAD_IN_SECONDS} s of a load are not counted; each begins with what was written before vacuumed, analysed and on the disk",
    "percentiles": "nearest rank per round, then the median over rounds",
    "from MariaDB": "approvals of the OA, a request and its form; the source's commit is the moment when COMMIT had "
    "returned to the client",
    "to MariaDB": "the headers of orders; the target's commit is the moment when a replica got it from the binary log",
    "backlog": "rows per second from the first target commit to the last, all systems from the same rows",
    "cpu": "user and system seconds of every process of the stack while the backlog is drained, the start of "
    "connectors and processes included; the load generator is none of it",
    "durability": "PostgreSQL fsync=on, synchronous_commit=on in source and targets; MariaDB sync_binlog=1, "
    "innodb_flush_log_at_trx_commit=1; Kafka one broker, acks=all, "
    "idempotent producers",
}


def content(
    plan: Plan,
    command: str,
    measured: Measured,
    systems: Sequence[System],
    differences: dict[str, str],
    peer: str,
) -> dict[str, Any]:
    """Give the report as `bench.json` has it."""
    backlog = figures.report_backlogs(measured.backlogs)
    runs = figures.report_loads(measured.loads, measured.saturated)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
        "versions": versions(POM.read_text(encoding="utf-8")),
        "plan": asdict(plan),
        "definitions": _DEFINITIONS,
        "systems": {system.name: system.does for system in systems},
        "peer_tuning": {"source": TUNED[0], "sink": TUNED[1], "url": TUNED[2]},
        "runs": runs,
        "backlog": backlog,
        "ratio": figures.ratio(runs, backlog, "tongbu", peer),
        "rounds": [_round(load) for load in measured.loads],
        "stages": _stages(measured),
        "memory_mib": measured.memory,
        "idle_cpu_percent": measured.idle,
        "parity": {name: text or "equal" for name, text in differences.items()},
    }  # fmt: skip


def versions(pom: str) -> dict[str, str]:
    """Give the versions of the servers, as the file that fetches them pins them."""
    _, _, properties = pom.partition("<properties>")
    properties, _, _ = properties.partition("</properties>")
    return {
        name: version
        for name, version in re.findall(r"<([\w.]+)>([^<]+)</", properties)
        if name in _SERVERS
    }


def command(plan: Plan, only: str = "", path: str = "") -> str:
    """Give the command that makes a run with this plan, of one system or on one path where these are named."""
    full = plan.loads == FULL.loads
    if plan == (FULL if full else Plan()) and not (only or path):
        return "make bench FULL=1" if full else "make bench"
    options = f"--rounds {plan.rounds} --seconds {plan.seconds:g} --backlog {plan.backlog_rows}"
    named = "".join(
        f" --{name} {value}" for name, value in (("only", only), ("path", path)) if value
    )
    return f"python -m bench run {'--full ' if full else ''}{options}{named}"


def _round(load: figures.Load) -> dict[str, Any]:
    return {
        "system": load.system, "round": load.round, "tx_per_s": load.tx_per_s, "rows_per_tx": load.rows_per_tx,
        "path": load.path, "transactions": len(load.latencies), "late_ms": round(load.late_ms, 1),
        "cpu_s": {role: round(used, 2) for role, used in load.cpu.items()},
        **percentiles(ms for _, ms in load.latencies),
    }  # fmt: skip


def _stages(measured: Measured) -> list[dict[str, Any]]:
    return [
        {"round": load.round, "tx_per_s": load.tx_per_s, "rows_per_tx": load.rows_per_tx, "hops": load.stages}
        for load in measured.loads
        if load.stages
    ]  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """Give the tables of a report."""
    lines = [
        "| system | path | tx/s | lines | p50 | p95 | p99 | p99.9 | max ms | CPU s / 1,000 rows |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in report["runs"]:
        found = [_cell(run, name) for name in figures.QUANTILES]
        cpu = run.get("cpu_s_per_1000_rows", "")
        lines.append(
            f"| {run['system']} | {run['path']} | {run['tx_per_s']} | {run['rows_per_tx']} | {' | '.join(found)} | {cpu} |"
        )
    lines += ["", "| system | path | backlog rows/s | by round | CPU s / 1,000 rows | of it |", "|---|---|---|---|---|---|"]  # fmt: skip
    for line in report["backlog"]:
        roles = ", ".join(f"{role} {used:.3f}" for role, used in line["cpu_by_role"].items() if used > 0.0005)  # fmt: skip
        rounds = ", ".join(f"{each:,}" for each in line["rows_per_s_rounds"])
        lines.append(
            f"| {line['system']} | {line['path']} | {line['rows_per_s']:,} | {rounds} | {line['cpu_s_per_1000_rows']} | {roles} |"
        )
    lines += ["", "tongbu by the peer: " + ", ".join(f"{name} {value}" for name, value in report["ratio"].items())]  # fmt: skip
    lines += ["", *_costs(report), "", *_hops(report), "", *_growth(report), ""]
    lines += [f"- **{name}**: {text}" for name, text in report["definitions"].items()]
    lines.append("- **versions**: " + ", ".join(f"{n} {v}" for n, v in report["versions"].items()))
    return "\n".join(lines)


def _costs(report: dict[str, Any]) -> list[str]:
    idle = report["idle_cpu_percent"]
    lines = ["| system | most memory, MiB | of it | idle CPU, % of a core | of it |", "|---|---|---|---|---|"]  # fmt: skip
    for system, held in report["memory_mib"].items():
        cells = [*_sum_and_parts(held, 0), *_sum_and_parts(idle.get(system, {}), 1)]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return lines


def _sum_and_parts(of: dict[str, float], digits: int) -> tuple[str, str]:
    if not of:
        return "", ""
    parts = ", ".join(f"{role} {each:.{digits}f}" for role, each in sorted(of.items()))
    return f"{sum(of.values()):.{digits}f}", parts


def _growth(report: dict[str, Any]) -> list[str]:
    cases = report.get("scaling", [])
    lines = ["| the processor alone | µs per transaction | |", "|---|---|---|"]
    lines += [f"| {case['case']} | {case['us_per_transaction']:.0f} | {case['ratio']:.2f} x |" for case in cases]  # fmt: skip
    return lines if cases else []


def _hops(report: dict[str, Any]) -> list[str]:
    lines = ["| tx/s, lines, round | " + " | ".join(_hop_names(report)) + " |"]
    lines.append("|---|" + "---|" * len(_hop_names(report)))
    for each in report["stages"]:
        cells = [f"{hop['p50']:.1f} / {hop['p99']:.1f}" if hop else "" for hop in each["hops"].values()]  # fmt: skip
        lines.append(
            f"| {each['tx_per_s']}, {each['rows_per_tx']}, {each['round']} | {' | '.join(cells)} |"
        )
    return lines if report["stages"] else []


def _hop_names(report: dict[str, Any]) -> list[str]:
    return list(report["stages"][0]["hops"]) if report["stages"] else []


def _cell(run: dict[str, Any], name: str) -> str:
    return "saturated" if run.get("saturated") else f"{run[name]:.1f}"


def write(folder: Path, found: dict[str, Any], measured: Measured) -> None:
    """Write `bench.json`, `bench.md` and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    (folder / "bench.json").write_text(text, encoding="utf-8")
    (folder / "bench.md").write_text(markdown(found) + "\n", encoding="utf-8")
    from bench.plots import draw

    draw(folder, measured)
