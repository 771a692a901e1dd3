"""What became of every transaction of a load: committed, captured, told to the targets, applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.codec import Decoder
from schemas.control import is_control
from schemas.registry import Registry
from streams.records import Change, End, LaneRecord
from streams.stages.decode import decode
from tongbu import topics
from tongbu.latency import Transaction

TRANSACTIONS = "canonical.transactions.v1"


class Followed:
    """What came into lane logs and the transactions topic since it was made."""

    def __init__(self, bootstrap: str, registry: Registry, sources: Iterable[str]) -> None:
        self._bootstrap = bootstrap
        self._decoder = Decoder(registry.schema)
        self._lanes = {f"cdc.{source}": source for source in sources}
        self._at = topics.ends(bootstrap, [*self._lanes, TRANSACTIONS])
        #: Row changes captured.
        self.changes = 0
        #: Transactions whose END stands in a lane log.
        self.captured: set[Transaction] = set()
        #: Transactions that made a message for the targets.
        self.told: set[Transaction] = set()
        #: (topic, id) -> the latest canonical record.
        self.latest: dict[tuple[str, str], bytes] = {}

    def follow(self) -> None:
        """Read what has come since the last call."""
        ends = topics.ends(self._bootstrap, [*self._lanes, TRANSACTIONS])
        for (topic, partition), end in ends.items():
            start = self._at[topic, partition]
            for message in topics.read(self._bootstrap, topic, partition, start, end):
                if topic == TRANSACTIONS:
                    self._take_told(message.value())
                else:
                    self._take_captured(self._lanes[topic], message)
        self._at = ends

    def _take_told(self, value: bytes) -> None:
        found = self._decoder.decode(value)
        if found["transaction"] is not None:
            self.told.add((found["source"], found["transaction"]))
        for record in found["records"]:
            self.latest[record["topic"], record["key"]] = record["value"]

    def _take_captured(self, source: str, message: object) -> None:
        record = _lane_record(message)
        event = None if is_control(record.key) else decode(record)
        if isinstance(event, End):
            self.captured.add((source, event.transaction))
        elif isinstance(event, Change):
            self.changes += event.operation != "r"


def _lane_record(message: object) -> LaneRecord:
    key, value = message.key(), message.value()  # type: ignore[attr-defined]
    return LaneRecord("", 0, 0, key, value)


@dataclass(frozen=True, slots=True)
class Account:
    """Transactions of a load by how far they came. Those that changed nothing mapped have nothing to tell."""

    committed: int
    not_captured: frozenset[Transaction]
    nothing_to_tell: int
    not_applied: frozenset[Transaction]

    @property
    def lost(self) -> int:
        """How many are missing somewhere."""
        return len(self.not_captured) + len(self.not_applied)

    @property
    def applied(self) -> int:
        """How many arrived."""
        return self.committed - self.nothing_to_tell - self.lost


def settle(
    committed: Iterable[Transaction],
    captured: set[Transaction],
    told: set[Transaction],
    applied: Iterable[Transaction],
) -> Account:
    """Compare the stages."""
    all_committed, all_applied = set(committed), set(applied)
    not_captured = all_committed - captured
    to_tell = all_committed & told
    return Account(
        committed=len(all_committed),
        not_captured=frozenset(not_captured),
        nothing_to_tell=len(all_committed - not_captured - to_tell),
        not_applied=frozenset(to_tell - all_applied - not_captured),
    )
