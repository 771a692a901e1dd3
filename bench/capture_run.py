"""`python -m bench capture`: how long a commit takes to the topic on an idle stack, and what the Connect worker costs when nothing happens."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
import psycopg
import pymysql
from rich.console import Console
from rich.table import Table

from bench import resources
from bench.system import wait
from tongbu import topics
from tongbu.deploy import commands as deploy
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.instance import Instance, run_folder
from tongbu.latency import percentiles
from tongbu.reports import write_report
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

#: What must hold for PostgreSQL and MariaDB with the shipped settings, on an idle machine of 2 cores.
MUST_P50_MS = 3.0
#: The broker stamps whole milliseconds, cut off: half of one on average.
_CUT_OFF_MS = 0.5
_LAST = b'"status":"END"'


def measure(instance: Instance, commits: int, idle_seconds: float, *, keep: bool) -> dict[str, Any]:
    """Bring servers and connectors up (no processor, no sink), measure, and bring them down again."""
    console = Console(stderr=True)
    os.environ.update(instance.environment())
    try:
        with Progress(console) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
        deploy.perform(Deployment(dict(os.environ)), None, lambda _: None)
        for source in ("erp", "oa"):
            wait("the initial snapshot is captured", partial(_snapshot_is_there, source))
        for source in ("erp", "oa"):
            _latencies(source, commits // 4)  # the first ones after a start are slower
        found = {source: percentiles(_latencies(source, commits)) for source in ("erp", "oa")}
        before, began = resources.cpu_seconds(instance.folder), time.monotonic()
        time.sleep(idle_seconds)
        used = resources.difference(before, resources.cpu_seconds(instance.folder))
        share = 100 / (time.monotonic() - began)
        idle = {role: round(seconds * share, 1) for role, seconds in used.items()}
        return {"commit_to_topic_ms": found, "idle_cpu_percent_of_a_core": idle, "commits": commits}
    finally:
        if not keep:
            lifecycle.down(instance, purge=True)


def show(report: dict[str, Any]) -> Table:
    """Give the figures for a person."""
    table = Table("commit -> topic, ms", "p50", "p95", "p99", f"must: p50 <= {MUST_P50_MS:.0f}", box=None)  # fmt: skip
    for source, found in report["commit_to_topic_ms"].items():
        kept = "yes" if found["p50"] <= MUST_P50_MS else "NO"
        table.add_row(source, *(f"{found[name]:.1f}" for name in ("p50", "p95", "p99")), kept)
    idle = report["idle_cpu_percent_of_a_core"]
    table.add_row("idle CPU, % of a core", *(f"{role} {idle.get(role, 0)}" for role in ("connect", "kafka")))  # fmt: skip
    return table


def _snapshot_is_there(source: str) -> bool:
    return any(b'"COMPLETED"' in value for _, value in _records(source, 0))


def _latencies(source: str, commits: int) -> list[float]:
    """Commit single changes with random pauses; give milliseconds from the commit's return to the append of its END."""
    start = topics.ends(os.environ["KAFKA_BOOTSTRAP"], [f"cdc.{source}"])[f"cdc.{source}", 0]
    committed: dict[str, float] = {}
    with _session(source) as change:
        for number in range(commits):
            time.sleep(random.uniform(0.01, 0.03))
            transaction = change(number)
            committed[transaction] = time.time() * 1000
    appended: dict[str, float] = {}

    def all_are_there() -> bool:
        for timestamp, value in _records(source, start):
            if _LAST in value:
                id_ = orjson.loads(value)["id"]
                name = id_.partition(":")[0] if source == "erp" else id_
                appended.setdefault(name, timestamp + _CUT_OFF_MS)
        return committed.keys() <= appended.keys()

    wait("every commit is captured", all_are_there)
    return [max(0.0, appended[name] - at) for name, at in committed.items()]


def _records(source: str, start: int) -> Iterator[tuple[float, bytes]]:
    bootstrap, topic = os.environ["KAFKA_BOOTSTRAP"], f"cdc.{source}"
    end = topics.ends(bootstrap, [topic])[topic, 0]
    for message in topics.read(bootstrap, topic, 0, start, end):
        yield message.timestamp()[1], message.value() or b""


@contextmanager
def _session(source: str) -> Iterator[Callable[[int], str]]:
    """Give what changes one row and commits; it gives the transaction's id."""
    if source == "erp":
        with psycopg.connect(os.environ["ERP_DSN"]) as pg:

            def change_erp(number: int) -> str:
                row = pg.execute("SELECT txid_current() & 4294967295").fetchone()
                pg.execute(
                    'UPDATE "Inventory" SET "cInvDefine1" = %s WHERE "cInvCode" = (SELECT min("cInvCode") FROM "Inventory")',
                    [f"{number} {time.time()}"[:20]],
                )
                pg.commit()
                return str(row and row[0])

            yield change_erp
        return
    with pymysql.connect(**mysql_arguments(os.environ["OA_DSN"])) as my, my.cursor() as cursor:

        def change_oa(number: int) -> str:
            cursor.execute("UPDATE hrmdepartment SET showorder = %s ORDER BY id LIMIT 1", [int(time.time() * 1000) % 1_000_000_000 + number])  # fmt: skip
            my.commit()
            cursor.execute("SELECT @@last_gtid")
            row = cursor.fetchone()
            my.commit()
            return str(row and row[0])

        yield change_oa


def perform(instance: str, commits: int, idle_seconds: float, *, keep: bool) -> None:
    """Measure, show, and write the report."""
    report = measure(Instance.load(instance), commits, idle_seconds, keep=keep)
    Console().print(show(report))
    write_report(run_folder() / "reports/capture.json", report)
