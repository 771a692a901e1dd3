"""
The load generator: business as the ERP and the OA write it, at a given rate.

Open loop: transactions are due at random times (Poisson) whatever the databases do; one that starts late is
counted as late, so a slow database can't hide by slowing the load. Each commit is journalled with the client's clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tongbu.world.erp_business import Erp
from tongbu.world.journal import Journal, Step
from tongbu.world.oa_business import Oa

#: Share of the transactions that happen in the ERP.
_ERP_SHARE = 0.75


class Business(Protocol):
    """A system that people work in."""

    def step(self) -> Step:
        """Do one transaction."""

    def close(self) -> None:
        """Leave it."""


@dataclass
class Summary:
    """What a load did; times in milliseconds."""

    transactions: int = 0
    rows: int = 0
    seconds: float = 0.0
    late_ms_max: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give it for JSON."""
        return asdict(self)


class Player(threading.Thread):
    """Plays one system at its share of the rate, until its time or number of transactions is over."""

    def __init__(
        self, source: str, business: Business, rate: float, limit: int, journal: Journal, seed: int
    ) -> None:
        super().__init__(name=f"load-{source}", daemon=True)
        self.summary = Summary()
        self.failure: Exception | None = None
        self.stopping = threading.Event()
        self._source, self._business, self._rate, self._limit = source, business, rate, limit
        self._journal = journal
        self._arrivals = Random(seed)

    def run(self) -> None:
        """Play; a failure is kept for whoever waits."""
        began = time.perf_counter()
        due = began
        try:
            while not self.stopping.is_set() and self.summary.transactions < self._limit:
                due += self._arrivals.expovariate(self._rate)
                if self.stopping.wait(max(0.0, due - time.perf_counter())):
                    break
                self.summary.late_ms_max = max(
                    self.summary.late_ms_max, (time.perf_counter() - due) * 1000
                )
                self._play_one()
        except Exception as error:
            self.failure = error
        finally:
            self.summary.seconds = time.perf_counter() - began
            self._business.close()

    def _play_one(self) -> None:
        step = self._business.step()
        self._journal.note(self._source, step, time.time_ns() // 1000)
        self.summary.transactions += 1
        self.summary.rows += step.rows
        self.summary.kinds[step.kind] = self.summary.kinds.get(step.kind, 0) + 1


def play(
    environment: dict[str, str],
    rate: float,
    transactions: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Summary:
    """
    Play `transactions` business transactions at `rate` per second; tell how many are done, several times a second.

    Ctrl-C ends it early, with everything journalled that was committed. Raises what a system raised.
    """
    journal = Journal(Path(environment["TONGBU_DATA"]) / "journal.jsonl")
    in_erp = round(transactions * _ERP_SHARE)
    erp = Erp(environment["ERP_DSN"], Random(seed))
    oa = Oa(environment["OA_DSN"], Random(seed + 1))
    players = [
        Player("erp", erp, rate * _ERP_SHARE, in_erp, journal, seed + 2),
        Player("oa", oa, rate * (1 - _ERP_SHARE), transactions - in_erp, journal, seed + 3),
    ]
    for player in players:
        player.start()
    try:
        while any(player.is_alive() for player in players):
            on_progress(sum(player.summary.transactions for player in players))
            players[0].join(0.1) if players[0].is_alive() else players[1].join(0.1)
    except KeyboardInterrupt:
        for player in players:
            player.stopping.set()
    for player in players:
        player.join()
    journal.close()
    for player in players:
        if player.failure is not None:
            raise player.failure
    summary = _together([player.summary for player in players])
    on_progress(summary.transactions)
    return summary


def _together(parts: list[Summary]) -> Summary:
    kinds: dict[str, int] = {}
    for part in parts:
        kinds.update(part.kinds)
    return Summary(
        transactions=sum(part.transactions for part in parts),
        rows=sum(part.rows for part in parts),
        seconds=max(part.seconds for part in parts),
        late_ms_max=max(part.late_ms_max for part in parts),
        kinds=dict(sorted(kinds.items())),
    )
