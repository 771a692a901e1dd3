"""The verdict on a run of harm: every row and every effect, when all is quiet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psycopg

from bench.system import wait
from schemas.declarations import load_bindings
from schemas.errors import ServiceUnavailable
from sink_writers import bindings
from tongbu import reconcile, topics
from tongbu.accounting import TRANSACTIONS
from tongbu.deploy.deployment import Deployment
from tongbu.progress import Steps

#: What is not quiet after so long never will be.
STUCK_SECONDS = 120.0
#: What was set aside is tried again every few seconds.
_RETRY_SECONDS = 5.0


def await_quiet(environment: Mapping[str, str]) -> bool:
    """Wait until nothing is on its way any more; tell whether that came to pass."""
    bootstrap = environment["KAFKA_BOOTSTRAP"]
    groups = [f"sink-{each.value.binding}" for each in load_bindings(bindings.FOLDER)]

    def quiet() -> bool:
        try:
            if topics.backlog(bootstrap, "tongbu-processor", ["cdc.erp", "cdc.oa"]) > 1:
                return False
            return not any(topics.backlog(bootstrap, group, [TRANSACTIONS]) for group in groups)
        except ServiceUnavailable:
            return False

    try:
        wait("quiet", quiet, STUCK_SECONDS)
    except ServiceUnavailable:
        return False
    time.sleep(_RETRY_SECONDS)
    return True


def judge(environment: Mapping[str, str], steps: Steps) -> dict[str, Any]:
    """
    Compare all; give what is lost, doubled and mismatched, with the parity and the effects it was counted from.

    `withheld` are ids that were set apart: whatever harm was done, nothing may be left over.
    """
    quiet = await_quiet(environment)
    subject = Deployment(dict(environment))
    parity = reconcile.reconcile(subject, reconcile.in_force(subject), steps)
    rows: Counter[str] = sum((each.kinds for each in parity.targets.values()), Counter())
    found = effects(_approved(environment), _received(environment))
    return {
        "lost": rows["missing"] + found["lost"],
        "doubled": rows["extra"] + found["doubled"],
        "mismatched": rows["differs"],
        "withheld": sum(map(len, parity.set_apart.values())),
        "quiet": quiet,
        "parity": parity.as_json(),
        "effects": found,
    }


def holds(found: dict[str, Any]) -> bool:
    """Tell whether all is as it should be: what was withheld was not compared, so nothing may be."""
    wrong = any(found[name] for name in ("lost", "doubled", "mismatched", "withheld"))
    return bool(found["quiet"]) and not wrong


def _approved(environment: Mapping[str, str]) -> list[str]:
    with psycopg.connect(environment["ERP_DSN"]) as erp:
        rows = erp.execute(
            """SELECT "cSOCode" FROM "SO_SOMain" WHERE "cVerifier" IS NOT NULL AND NOT "bReturnFlag" """
        )
        return [code for (code,) in rows]


def _received(environment: Mapping[str, str]) -> list[str]:
    file = Path(environment["TONGBU_DATA"]) / "webhooks.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [orjson.loads(line)["data"]["code"] for line in lines]


def effects(approved: Sequence[str], received: Sequence[str]) -> dict[str, Any]:
    """Compare approvals (codes of orders) with the events received: each exactly once, and none that nobody approved."""
    wanted, arrived = set(approved), Counter(received)
    lost = sorted(wanted - arrived.keys())
    doubled = sorted(code for code, count in arrived.items() if count > 1 or code not in wanted)
    return {
        "approved": len(approved),
        "lost": len(lost),
        "doubled": len(doubled),
        "examples": [*lost[:5], *doubled[:5]],
    }
