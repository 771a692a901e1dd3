"""
Rounds of harm to a whole stack under load, then the verdict: every row, and every effect.

Each round plays business in both systems, does one fault, and then asks how long the first change that is committed
after the fault takes to arrive. At the end, when all is quiet, sources and targets are compared row by row through
the mapping, and approvals with the events that the partner's endpoint received.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from bench.connect import Connect
from bench.services import Harm, Services
from bench.system import one, wait
from schemas.declarations import load_bindings
from schemas.errors import ServiceUnavailable
from sink_writers import bindings
from tongbu import reconcile, topics
from tongbu.accounting import TRANSACTIONS
from tongbu.instance import ROOT
from tongbu.progress import Steps

#: A lane that brings nothing for so long is stuck.
STUCK_SECONDS = 120.0
#: What recovery is to take at most, from the fault's end.
RECOVERY_SECONDS = 15.0
_RATE, _LOAD_SECONDS = 40, 12


@dataclass(frozen=True, slots=True)
class Round:
    """A fault, and how long after its end a new change took to arrive; None where it never did."""

    harm: Harm
    recovery_s: float | None
    failed_connectors: tuple[str, ...]


class Victim:
    """A stack under load; `tell` hears what happens."""

    def __init__(
        self, environment: dict[str, str], services: Services, tell: Callable[[str], None]
    ) -> None:
        self._environment, self._services, self._tell = environment, services, tell
        self._connect = Connect(environment["CONNECT_URL"])
        self._seed = 1

    def suffer(self, harms: Sequence[Harm]) -> list[Round]:
        """Do all faults, one after the other, each under load."""
        return [self._round(number, harm) for number, harm in enumerate(harms, 1)]

    def _round(self, number: int, harm: Harm) -> Round:
        self._seed += 1
        load = self._load()
        time.sleep(2 + number % 3)
        self._services.do(harm)
        over = time.monotonic()
        recovery = self._recovery(over)
        load.wait()  # a database that dies ends it: business stands still then, too
        failed = tuple(self._connect.failed())
        said = "STUCK" if recovery is None else f"{recovery:.1f} s"
        self._tell(f"round {number}: {harm.kind} {harm.service} ({harm.seconds} s): {said} {', '.join(failed)}")  # fmt: skip
        return Round(harm, recovery, failed)

    def _load(self) -> subprocess.Popen[bytes]:
        options = {"rate": _RATE, "seconds": _LOAD_SECONDS, "seed": self._seed}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", "tongbu.cli", "load", *arguments],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _recovery(self, over: float) -> float | None:
        """Commit a change and wait for it: a lane is in commit order, so what came before it is there, too."""
        try:
            wait("the fault is over", self._commits_and_arrives, STUCK_SECONDS)
        except ServiceUnavailable:
            return None
        return round(time.monotonic() - over, 1)

    def _commits_and_arrives(self) -> bool:
        memo = f"probe {time.time_ns()}"
        try:
            with psycopg.connect(self._environment["ERP_DSN"], autocommit=True) as erp:
                erp.execute(
                    """UPDATE "Customer" SET "cMemo" = %s WHERE "cCusCode" = 'C0001'""", [memo]
                )
            found = "SELECT note FROM canonical.customer WHERE id = 'erp:C0001'"
            with psycopg.connect(self._environment["WAREHOUSE_DSN"], autocommit=True) as warehouse:
                wait("the change", lambda: one(warehouse, found) == memo, STUCK_SECONDS)
        except psycopg.OperationalError:
            return False
        return True

    def await_quiet(self) -> bool:
        """Wait until nothing is on its way any more; tell whether that came to pass."""
        bootstrap = self._environment["KAFKA_BOOTSTRAP"]
        groups = [f"sink-{each.value.binding}" for each in load_bindings(bindings.FOLDER)]

        def quiet() -> bool:
            if topics.backlog(bootstrap, "tongbu-processor", ["cdc.erp", "cdc.oa"]) > 1:
                return False
            return not any(topics.backlog(bootstrap, group, [TRANSACTIONS]) for group in groups)

        try:
            self._commits_and_arrives()
            wait("quiet", quiet, STUCK_SECONDS)
        except ServiceUnavailable:
            return False
        time.sleep(5)  # what was set aside is tried again every few seconds
        return True

    def verdict(self, rounds: Sequence[Round], steps: Steps) -> dict[str, Any]:
        """Compare everything; give the report."""
        quiet = self.await_quiet()
        parity = reconcile.reconcile(
            self._environment, reconcile.in_force(self._environment), steps
        )
        late = [r for r in rounds if r.recovery_s is not None and r.recovery_s > RECOVERY_SECONDS]
        return {
            "rounds": len(rounds),
            "mismatched": {name: each.mismatches for name, each in parity.targets.items()},
            "parity": parity.as_json(),
            "effects": effects(self._approved(), self._received()),
            "stuck": sum(r.recovery_s is None for r in rounds) + (not quiet),
            "recovery_s_max": max(
                (STUCK_SECONDS if r.recovery_s is None else r.recovery_s for r in rounds),
                default=0.0,
            ),
            "late": [asdict(each) for each in late],
            "faults": [asdict(each) for each in rounds],
        }

    def _approved(self) -> list[str]:
        with psycopg.connect(self._environment["ERP_DSN"]) as erp:
            rows = erp.execute(
                """SELECT "cSOCode" FROM "SO_SOMain" WHERE "cVerifier" IS NOT NULL AND NOT "bReturnFlag" """
            )
            return [code for (code,) in rows]

    def _received(self) -> list[str]:
        file = Path(self._environment["TONGBU_DATA"]) / "webhooks.jsonl"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [orjson.loads(line)["data"]["code"] for line in lines]


def effects(approved: Sequence[str], received: Sequence[str]) -> dict[str, Any]:
    """Compare approvals (codes of orders) with the events received: each exactly once."""
    arrived = Counter(received)
    lost = sorted(set(approved) - arrived.keys())
    doubled = sorted(code for code, count in arrived.items() if count > 1)
    return {
        "approved": len(approved),
        "lost": len(lost),
        "doubled": len(doubled),
        "examples": [*lost[:5], *doubled[:5]],
    }


def unhealed(report: dict[str, Any]) -> bool:
    """Tell whether a report has anything mismatched, lost, doubled or stuck."""
    effects = report["effects"]
    return bool(
        any(report["mismatched"].values())
        or effects["lost"]
        or effects["doubled"]
        or report["stuck"]
    )
