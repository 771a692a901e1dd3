"""
What streams/transport.py relies on in the pinned faust-streaming and aiokafka, and what it promises itself.

A newer version that renames or re-shapes a private hook fails here, by name, before it loses records in silence:
an override that nothing calls any more is no error in Python.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.consumer.fetcher import Fetcher
from faust.events import Event
from faust.tables.manager import TableManager
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

from streams import transport
from streams.transport import BATCH_RECORDS, Batch, BatchScheduler, BatchSchema, Fetched

LANE = TP("cdc.erp", 0)


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


# -- hooks of the pinned packages


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")]
)
def test_the_packages_are_those_that_the_hooks_were_read_in(package: str, pinned: str) -> None:
    assert version(package) == pinned, "read the hooks anew, then change this version"


@pytest.mark.parametrize(
    ("hook", "expected", "is_async"),
    [
        (driver.Consumer._new_consumer_thread, ["self"], False),
        (driver.Consumer._filter_tps_with_pending_acks, ["self", "topics"], False),
        (driver.Consumer._new_offset, ["self", "tp"], False),
        (driver.Consumer._add_gap, ["self", "tp", "offset_from", "offset_to"], True),
        (driver.Consumer.wait_first, ["self", "coros", "timeout"], True),
        (driver.Consumer.perform_seek, ["self"], True),
        (driver.Consumer.seek_to_committed, ["self"], True),
        (driver.Consumer.on_partitions_revoked, ["self", "revoked"], True),
        (driver.Consumer.on_stop, ["self"], True),
        (driver.Consumer.stop_flow, ["self"], False),
        (
            driver.AIOKafkaConsumerThread._fetch_records,
            ["self", "consumer", "active_partitions", "timeout", "max_records"],
            True,
        ),
        (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"], False),
        (driver.AIOKafkaConsumerThread.on_start, ["self"], True),
        (driver.AIOKafkaConsumerThread.call_thread, ["self", "fun", "args", "kwargs"], True),
        (DefaultSchedulingStrategy.iterate, ["self", "records"], False),
        (TableManager.on_start, ["self"], True),
        (TableManager._update_channels, ["self"], True),
        (Event.__init__, ["self", "app", "key", "value", "headers", "message"], False),
    ],
    ids=lambda each: getattr(each, "__qualname__", ""),
)
def test_a_hook_is_there_with_the_signature_that_is_overridden_or_called(
    hook: Callable[..., Any], expected: list[str], is_async: bool
) -> None:
    assert parameters(hook) == expected
    assert inspect.iscoroutinefunction(hook) == is_async


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (transport.LaneConsumer, driver.Consumer),
        (transport._FetchThread, driver.AIOKafkaConsumerThread),
        (transport.BatchScheduler, DefaultSchedulingStrategy),
        (transport.BatchSchema, faust.Schema),
        (transport._Tables, TableManager),
    ],
    ids=lambda each: each.__name__,
)
def test_every_override_overrides_something(ours: type, theirs: type) -> None:
    added = {"seek_all", "owner", "generation"}
    methods = {name for name in vars(ours) if not name.startswith("__")} - added
    assert methods
    assert {name for name in methods if not hasattr(theirs, name)} == set()


@pytest.mark.parametrize(
    ("caller", "call"),
    [
        (base.Consumer.force_commit, "self._filter_tps_with_pending_acks(topics)"),
        (base.Consumer._filter_committable_offsets, "self._new_offset(tp)"),
        (base.Consumer._drain_messages, "await self._add_gap("),
        (base.Consumer._drain_messages, "callback(message), self.suspend_flow.wait()"),
        (base.Consumer.getmany, "self.scheduler.iterate(records)"),
        (base.Consumer.__init__, "self.app.conf.ConsumerScheduler()"),
        (base.ThreadDelegateConsumer.__init__, "self._new_consumer_thread()"),
        (driver.AIOKafkaConsumerThread.getmany, "self._fetch_records"),
        (Fetcher._proc_fetch_request, "backoff=self._prefetch_backoff"),
        (Fetcher._get_actions_per_node, "record.calculate_backoff()"),
    ],
    ids=lambda each: getattr(each, "__qualname__", each),
)
def test_faust_and_aiokafka_still_call_what_is_replaced(
    caller: Callable[..., Any], call: str
) -> None:
    assert call in inspect.getsource(caller)


def test_fausts_wait_for_tables_is_one_second_and_nothing_else() -> None:
    """`_Tables.on_start` repeats the rest of it."""
    source = inspect.getsource(TableManager.on_start)
    assert [line.strip() for line in source.splitlines()[2:]] == [
        "await self.sleep(1.0)",
        "if not self.should_stop:",
        "await self._update_channels()",
        "await self.recovery.start()",
    ]


def test_an_app_takes_every_setting_and_gets_the_transport_installed() -> None:
    app = faust.App("test", broker="kafka://127.0.0.1:1", **transport.SETTINGS)
    owner = Owner({})
    transport.install(app, owner, {"cdc.erp"})

    assert app.conf.ConsumerScheduler is BatchScheduler
    assert isinstance(app.tables, transport._Tables)
    assert issubclass(app.transport.Consumer, transport.LaneConsumer)
    assert app.transport.Consumer.owner is owner
    assert transport.LaneConsumer is not app.transport.Consumer, "apps do not share an owner"


# -- batches


def record(offset: int) -> Any:
    return SimpleNamespace(
        topic="cdc.erp", partition=0, offset=offset, timestamp=7_000 + offset, timestamp_type=1
    )


def fetched(count: int, generation: int = 3, start: int = 0) -> Fetched:
    records = Fetched(record(start + number) for number in range(count))
    records.generation = generation
    return records


def test_a_fetch_is_cut_into_batches_that_hold_every_record_once_and_in_order() -> None:
    records = {LANE: fetched(2 * BATCH_RECORDS + 1), TP("cdc.oa", 0): fetched(1)}

    batches = list(BatchScheduler().iterate(records))

    sizes = [(tp.topic, len(batch.value[1])) for tp, batch in batches]
    assert sizes == [
        ("cdc.erp", BATCH_RECORDS),
        ("cdc.erp", BATCH_RECORDS),
        ("cdc.erp", 1),
        ("cdc.oa", 1),
    ]
    offsets = [each.offset for tp, batch in batches if tp == LANE for each in batch.value[1]]
    assert offsets == list(range(2 * BATCH_RECORDS + 1))


def test_every_batch_of_a_fetch_carries_the_generation_of_the_seek_it_follows() -> None:
    batches = BatchScheduler().iterate({LANE: fetched(BATCH_RECORDS + 1, generation=5)})
    assert [batch.value[0] for _, batch in batches] == [5, 5]


def test_a_batch_stands_at_the_offset_of_its_last_record_as_faust_goes_on_after_it() -> None:
    batch = Batch([record(4), record(9)], 1)
    assert (batch.topic, batch.partition, batch.offset, batch.timestamp) == ("cdc.erp", 0, 9, 7009)


def test_faust_makes_its_message_of_a_batch() -> None:
    app = SimpleNamespace(app=SimpleNamespace(consumer_generation_id=1))
    message = driver.Consumer._to_message(app, LANE, Batch([record(4)], 1))
    assert message.value == (1, [record(4)])
    assert message.offset == 4


def test_the_schema_hands_a_batch_on_without_decoding_it() -> None:
    app: Any = SimpleNamespace()
    value = (1, [record(1)])
    decode = BatchSchema(key_type=bytes, value_type=bytes).compile(app)
    event = asyncio.run(decode(SimpleNamespace(value=value)))
    assert event.value is value


# -- positions


class Owner:
    """Holds positions and writes down what is asked of it."""

    def __init__(self, positions: dict[TP, int]) -> None:
        self.positions = positions
        self.calls: list[Any] = []

    def open(self, tps: set[TP], committed: dict[TP, int]) -> dict[TP, int]:
        self.calls.append(("open", tps, committed))
        return {tp: self.positions[tp] for tp in tps}

    async def drain(self) -> None:
        self.calls.append("drain")

    async def release(self) -> None:
        self.calls.append("release")

    def position(self, tp: TP) -> int | None:
        return self.positions.get(tp)


class Thread:
    """Stands for the fetch thread."""

    def __init__(self) -> None:
        self.generation = 0
        self.starts: dict[TP, int] = {}

    async def seek_all(self, starts: dict[TP, int]) -> int:
        self.starts = starts
        self.generation += 1
        return self.generation

    async def call_thread(self, function: Any, *args: Any) -> Any:
        return await function(*args)


def consumer(owner: Owner, assigned: set[TP], committed: dict[TP, int | None]) -> Any:
    class Consumer(transport.LaneConsumer):
        def __init__(self) -> None:
            self._seeking = asyncio.Lock()
            self._thread, self._read_offset, self._committed_offset = Thread(), {}, {}
            self.app = SimpleNamespace(lane_topics={"cdc.erp", "cdc.oa"})

        def assignment(self) -> set[TP]:
            return assigned

        async def seek_to_committed(self) -> dict[TP, int | None]:
            return committed

    Consumer.owner = owner
    return Consumer()


def test_reading_starts_at_the_states_position_not_at_the_committed_offset() -> None:
    async def seek() -> Any:
        found = consumer(owner, {LANE, TP("other", 0)}, {LANE: 70})
        await found.perform_seek()
        return found

    owner = Owner({LANE: 40})
    found = asyncio.run(seek())

    assert found._thread.starts == {LANE: 40}
    assert owner.calls == ["release", ("open", {LANE}, {LANE: 70})]
    assert found._read_offset == {LANE: None}, "else Faust drops what is below"


def test_a_seek_begins_a_new_generation_so_that_what_was_fetched_before_is_stale() -> None:
    async def seek_twice() -> list[int]:
        found, seen = consumer(Owner({LANE: 1}), {LANE}, {LANE: None}), []
        for _ in range(2):
            await found.perform_seek()
            seen.append(found.generation)
        return seen

    assert asyncio.run(seek_twice()) == [1, 2]


def test_only_a_position_on_disk_is_committed() -> None:
    async def ask() -> tuple[Any, ...]:
        found = consumer(Owner({LANE: 12}), {LANE, TP("cdc.oa", 0)}, {})
        return list(found._filter_tps_with_pending_acks()), found._new_offset(LANE)

    assert asyncio.run(ask()) == ([LANE], 12)


def test_a_revoked_partition_is_drained_then_committed_then_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def revoke() -> None:
        found = consumer(owner, {LANE}, {})
        found.stop_flow = lambda: owner.calls.append("stop")
        flow = SimpleNamespace(suspend=lambda: None, clear=lambda: None)
        found.app = SimpleNamespace(lane_topics={"cdc.erp"}, flow_control=flow)

        async def commit() -> None:
            owner.calls.append("commit")

        async def stock(self: Any, revoked: Any) -> None:
            owner.calls.append("revoked")

        found.commit = commit
        monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", stock)
        await found.on_partitions_revoked({LANE})
        assert found.generation == -1, "what is still in the stream is stale"

    owner = Owner({LANE: 12})
    asyncio.run(revoke())

    assert owner.calls == ["stop", "drain", "commit", "release", "revoked"]


def test_records_of_a_fetch_are_stamped_with_the_seek_before_it_and_empty_ones_left_out() -> None:
    async def fetch() -> Any:
        thread = transport._FetchThread.__new__(transport._FetchThread)
        thread.generation = 4
        thread.consumer = SimpleNamespace(flow_active=True)

        async def fetched_records(*args: Any, **kwargs: Any) -> Any:
            return {LANE: [record(1)], TP("cdc.oa", 0): []}

        fetcher = SimpleNamespace(
            _closed=False,
            fetched_records=fetched_records,
            _subscriptions=SimpleNamespace(fetch_context=nullcontext),
        )
        client = SimpleNamespace(_closed=False, _fetcher=fetcher)
        return await thread._fetch_records(client, {LANE})

    found = asyncio.run(fetch())

    assert found == {LANE: [record(1)]}
    assert found[LANE].generation == 4
