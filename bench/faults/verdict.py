"""The verdict: what a clean run of the same lane logs makes, compared with what the faulty run has made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict

from bench.faults.arena import OUTPUTS, SOURCES, Arena
from bench.lane_log import SCHEMAS
from schemas.codec import Decoder
from streams.lane import Lane
from streams.records import LaneRecord
from streams.seal import Seal
from streams.state import POSITION, TERM, State
from tongbu import topics

Record = tuple[bytes, bytes | None]


@dataclass
class Verdict:
    """
    How many outputs are missing, or are none that a clean run makes, or disagree otherwise.

    `mismatched`: ids whose last record is not their highest version, messages out of order, differing
    entries of a state. `repeats` are byte-identical, and harmless. `notes` says what is wrong, first ones only.
    """

    outputs: int = 0
    lost: int = 0
    doubled: int = 0
    mismatched: int = 0
    repeats: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep the first findings."""
        if len(self.notes) < 20:
            self.notes.append(text)


def judge(arena: Arena) -> Verdict:
    """Compare all outputs and the states with those of a clean run."""
    verdict = Verdict()
    expected: dict[str, list[Record]] = {name: [] for name in OUTPUTS}
    for source, partition in SOURCES.items():
        clean = arena.folder / "clean" / source
        _clean_run(arena, source, partition, clean, expected)
        _compare_states(arena, source, clean, verdict)
    for name in OUTPUTS:
        found = _read(arena, name)
        _compare(name, expected[name], found, verdict)
        if name == "canonical.transactions.v1":
            _compare_order(expected[name], found, verdict)
        elif name.startswith("canonical."):
            _check_last(_messages(arena, name), verdict)
    return verdict


def _clean_run(
    arena: Arena, source: str, partition: int, folder: Path, expected: dict[str, list[Record]]
) -> None:
    """Run a lane log through a lane without any process, in batches of other sizes."""
    state = State(folder)
    lane = Lane(source, partition, state, Seal(arena.key_file), topic_id=None)
    topic = arena.lane_topic(source)
    end = arena.ends()[topic, 0]
    for message in topics.read(arena.bootstrap, topic, 0, 0, end):
        record = LaneRecord(
            f"cdc.{source}",
            message.offset(),
            message.timestamp()[1] * 1000,
            message.key(),
            message.value(),
            tuple(message.headers() or ()),
        )
        for output in lane.process(record):
            if output is not None and output.topic in expected:
                expected[output.topic].append((output.key, output.value))
        if record.offset % 97 == 0 or record.offset == end - 1:
            lane.end_batch()
            state.commit(record.offset + 1)
    state.close()


def _compare_states(arena: Arena, source: str, clean: Path, verdict: Verdict) -> None:
    folders = [
        worker.folder / "state" / arena.prefix.rstrip(".") / f"cdc.{source}"
        for worker in arena.workers
    ]
    wanted = _dump(clean)
    places = [_dump(folder) for folder in folders if folder.exists()]
    found = max(places, key=lambda each: each.get(POSITION, b""), default={})
    keys = (wanted.keys() | found.keys()) - {TERM}  # each opening of a lane has its own
    differing = {key for key in keys if wanted.get(key) != found.get(key)}
    verdict.mismatched += len(differing)
    for key in sorted(differing)[:5]:
        verdict.note(
            f"state of {source}: {key!r} is {found.get(key)!r:.80}, not {wanted.get(key)!r:.80}"
        )


def _dump(folder: Path) -> dict[bytes, bytes]:
    database = Rdict(str(folder), options=Options(raw_mode=True))
    try:
        return dict(database.items())
    finally:
        database.close()


def _read(arena: Arena, name: str) -> list[Record]:
    return [(message.key(), message.value()) for message in _messages(arena, name)]


def _messages(arena: Arena, name: str) -> Iterator[Any]:
    topic = arena.prefix + name
    ends = topics.ends(arena.bootstrap, [topic])
    for (_, partition), end in sorted(ends.items()):
        yield from topics.read(arena.bootstrap, topic, partition, 0, end)


def _compare(name: str, expected: list[Record], found: list[Record], verdict: Verdict) -> None:
    wanted, came = set(expected), Counter(found)
    lost, doubled = wanted - came.keys(), came.keys() - wanted
    verdict.outputs += len(expected)
    verdict.lost += len(lost)
    verdict.doubled += len(doubled)
    verdict.repeats += len(found) - len(came)
    for what, records in (("lost", lost), ("not of a clean run", doubled)):
        for key, value in list(records)[:3]:
            verdict.note(f"{name}: {what}: {key!r} {len(value or b'')} bytes")


def _compare_order(expected: list[Record], found: list[Record], verdict: Verdict) -> None:
    """Messages must come in commit order; a reader drops repeats."""
    known = set(expected)
    came = [each for each in dict.fromkeys(found) if each in known]
    if came != expected:
        wrong = sum(a != b for a, b in zip(came, expected, strict=False))
        verdict.mismatched += wrong
        verdict.note(f"canonical.transactions.v1: {wrong} messages out of order")


@dataclass(frozen=True, slots=True)
class _Place:
    """A version of an id: where it stands, and when it was handed to a producer, in ms since 1970."""

    version: int
    at: str


def _check_last(messages: Iterable[Any], verdict: Verdict) -> None:
    decode = Decoder(SCHEMAS.__getitem__).decode
    last: dict[bytes, _Place] = {}
    highest: dict[bytes, _Place] = {}
    for message in messages:
        if (value := message.value()) is not None:
            at = f"{message.partition()}/{message.offset()} of {message.timestamp()[1]} ms"
            key, found = message.key(), _Place(_meta(decode(value))["version"], at)
            last[key] = found
            if found.version >= highest.get(key, found).version:
                highest[key] = found
    behind = [key for key, found in last.items() if found.version < highest[key].version]
    verdict.mismatched += len(behind)
    for key in behind[:3]:
        verdict.note(f"the last record of {key!r}, {last[key]}, is not its highest version, {highest[key]}")  # fmt: skip


def _meta(value: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = value["meta"]
    return meta
