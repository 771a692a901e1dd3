"""
What streams/transport.py relies on in the pinned faust-streaming and aiokafka, and what it promises itself.

A newer version that renames or re-shapes a private hook fails here, by name, before it loses records in silence:
an override that nothing calls any more is no error in Python.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CommitFailedError, IllegalGenerationError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams import transport
from streams.reading import Fetched
from streams.terms import Committed

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
        (driver.Consumer.perform_seek, ["self"], True),
        (driver.Consumer._commit, ["self", "offsets"], True),
        (driver.Consumer.maybe_wait_for_commit_to_finish, ["self"], True),
        (driver.Consumer._should_commit, ["self", "tp", "offset"], False),
        (driver.Consumer.on_partitions_revoked, ["self", "revoked"], True),
        (driver.Consumer.on_partitions_assigned, ["self", "assigned", "generation_id"], True),
        (driver.Consumer.on_stop, ["self"], True),
        (driver.Consumer.stop_flow, ["self"], False),
        (driver.Consumer._drain_messages, ["self", "fetcher"], True),
        (driver.Consumer.verify_event_path, ["self", "now", "tp"], False),
        (AIOKafkaConsumer.pause, ["self", "partitions"], False),
        (AIOKafkaConsumer.assignment, ["self"], False),
        (SubscriptionState.fetch_context, ["self"], False),
        (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"], False),
        (driver.AIOKafkaConsumerThread.on_start, ["self"], True),
        (driver.AIOKafkaConsumerThread._commit, ["self", "offsets"], True),
        (driver.AIOKafkaConsumerThread.commit, ["self", "offsets"], True),
        (driver.AIOKafkaConsumerThread.assignment, ["self"], False),
        (AIOKafkaConsumer.commit, ["self", "offsets"], True),
        (GroupCoordinator.fetch_committed_offsets, ["self", "partitions"], True),
        (GroupCoordinator._do_commit_offsets, ["self", "assignment", "offsets"], True),
        (driver.AIOKafkaConsumerThread.call_thread, ["self", "fun", "args", "kwargs"], True),
        (TableManager.on_start, ["self"], True),
        (TableManager._update_channels, ["self"], True),
        (Recovery.__init__, ["self", "app", "tables", "kwargs"], False),
        (Recovery._wait, ["self", "coro", "timeout"], True),
        (GroupCoordinator._do_heartbeat, ["self"], True),
        (GroupCoordinator.request_rejoin, ["self"], False),
        (faust.Topic.__anext__, ["self"], True),
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
        (transport._GroupThread, driver.AIOKafkaConsumerThread),
        (transport._Tables, TableManager),
        (transport._Recovery, Recovery),
    ],
    ids=lambda each: each.__name__,
)
def test_every_override_overrides_something(ours: type, theirs: type) -> None:
    added = {
        "rest", "owner", "bootstrap", "reading", "_stop_reading",
        "heard", "silence", "opening", "_opening_since", "rejoin", "_listen", "_assigned", "_seek_all", "next_batch", "end",
        "committed", "_claim", "_commit_last", "_fence",
    }  # fmt: skip
    methods = {name for name in vars(ours) if not name.startswith("__")} - added
    assert methods
    assert {name for name in methods if not hasattr(theirs, name)} == set()


@pytest.mark.parametrize(
    ("caller", "call"),
    [
        (base.Consumer.force_commit, "self._filter_tps_with_pending_acks(topics)"),
        (base.Consumer._filter_committable_offsets, "self._new_offset(tp)"),
        (base.Consumer._commit_offsets, "await self._commit(committable_offsets)"),
        (driver.AIOKafkaConsumerThread.commit, "self.call_thread(self._commit, offsets)"),
        (GroupCoordinator.commit_offsets, "self._do_commit_offsets(assignment, offsets)"),
        (GroupCoordinator.commit_offsets, "Errors.IllegalGenerationError,"),
        (driver.ConsumerRebalanceListener, "app.consumer_generation_id = generation"),
        (base.Fetcher, "await consumer._drain_messages(self)"),
        (Stream._py_aiter, "chan_slow_get = channel.__anext__"),
        (base.Consumer.verify_all_partitions_active, "self.verify_event_path(now, tp)"),
        (base.ThreadDelegateConsumer.__init__, "self._new_consumer_thread()"),
        (GroupCoordinator._heartbeat_routine, "self._subscription.fetcher_idle_time"),
        (GroupCoordinator._heartbeat_routine, "success = await self._do_heartbeat()"),
        (Fetcher._get_actions_per_node, "tp_state.paused"),
        (
            Recovery._resume_streams,
            "await self._wait(\n                consumer.perform_seek(), timeout=",
        ),
        (TableManager.on_rebalance, "self.recovery.on_rebalance"),
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
    transport.install(app, owner, {"cdc.erp"}, "127.0.0.1:1")

    assert isinstance(app.tables, transport._Tables)
    assert isinstance(app.topic("cdc.erp"), transport.LaneLogs)
    assert issubclass(app.transport.Consumer, transport.LaneConsumer)
    assert app.transport.Consumer.owner is owner
    assert transport.LaneConsumer is not app.transport.Consumer, "apps do not share an owner"


# -- batches


def message(offset: int) -> Any:
    return SimpleNamespace(offset=lambda: offset)


def fetched(*offsets: int, number: int = 1) -> Fetched:
    reading: Any = None
    return Fetched(reading, number, LANE, [message(offset) for offset in offsets])


def test_a_stream_over_the_lane_logs_gives_batches_as_they_were_fetched() -> None:
    async def iterate() -> list[Any]:
        app = faust.App("test", broker="kafka://127.0.0.1:1", **transport.SETTINGS)
        owner = Owner({})
        transport.install(app, owner, {"cdc.erp"}, "127.0.0.1:1")
        waiting, seen = [fetched(1, 2), fetched(3, number=2)], []

        async def next_batch() -> Fetched:
            return waiting.pop(0)

        app.consumer.next_batch = next_batch
        async for batch in app.topic("cdc.erp").stream():
            seen.append(batch)
            if not waiting:
                return seen
        return seen

    assert [each.number for each in asyncio.run(iterate())] == [1, 2]


# -- positions


class Owner:
    """Holds positions and writes down what is asked of it."""

    def __init__(self, positions: dict[TP, int]) -> None:
        self.positions = positions
        self.calls: list[Any] = []
        self.terms: dict[TP, str] = {}
        self.quiet: dict[TP, Committed] = {}
        self.refused: set[TP] = set()

    def open(self, tps: set[TP], committed: dict[TP, Committed]) -> dict[TP, int]:
        self.calls.append(("open", tps, committed))
        self.terms = dict.fromkeys(tps, "mine")
        return {tp: self.positions[tp] for tp in tps}

    def term(self, tp: TP) -> str | None:
        return self.terms.get(tp)

    def claims(self) -> dict[TP, Committed]:
        return {
            tp: Committed(self.positions[tp], term)
            for tp, term in self.terms.items()
            if tp not in self.refused
        }

    def begin(self) -> None:
        self.calls.append("begin")

    def silent(self) -> dict[TP, Committed]:
        return self.quiet if self.terms else {}

    async def drain(self) -> None:
        self.calls.append("drain")

    async def release(self) -> None:
        self.calls.append("release")
        self.terms = {}

    def position(self, tp: TP) -> int | None:
        return self.positions.get(tp)

    def full(self) -> set[TP]:
        return set()


class Thread:
    """Stands for the thread of the group's member."""

    rested = 0

    def __init__(self, committed: dict[TP, Committed]) -> None:
        self.found, self.commits = committed, []
        self.is_ours = True

    async def rest(self) -> None:
        self.rested += 1

    async def committed(self, tps: set[TP]) -> dict[TP, Committed]:
        return {tp: each for tp, each in self.found.items() if tp in tps}

    async def commit(self, offsets: dict[TP, Committed]) -> bool:
        self.commits.append(offsets)
        return self.is_ours

    async def call_thread(self, function: Any, *args: Any) -> Any:
        return await function(*args)


class Reads:
    """Stands for a reading."""

    def __init__(self, bootstrap: str, starts: dict[TP, int], full: Any) -> None:
        self.starts, self.stopped = starts, False

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "Reading", Reads)


def consumer(owner: Owner, assigned: set[TP], committed: dict[TP, Committed]) -> Any:
    class Consumer(transport.LaneConsumer):
        def __init__(self) -> None:
            self._seeking, self._assigned = asyncio.Lock(), object()
            self._thread, self._committed_offset = Thread(committed), {}
            self._commit_fut = None
            self.app = SimpleNamespace(lane_topics={"cdc.erp", "cdc.oa"})

        def assignment(self) -> set[TP]:
            return assigned

    Consumer.owner, Consumer.bootstrap = owner, "127.0.0.1:1"
    return Consumer()


def test_reading_starts_at_the_states_position_not_at_the_committed_offset() -> None:
    async def seek() -> Any:
        found = consumer(owner, {LANE, TP("other", 0)}, {LANE: Committed(70, "theirs")})
        await found.perform_seek()
        return found

    owner = Owner({LANE: 40})
    found = asyncio.run(seek())

    assert found.reading.starts == {LANE: 40}
    assert found._thread.rested == 1, "aiokafka fetches nothing"
    assert owner.calls == ["release", ("open", {LANE}, {LANE: Committed(70, "theirs")}), "begin"]


def test_a_member_says_for_how_long_its_lanes_are_being_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stock(self: Any, assigned: Any, generation_id: int) -> None:
        del self, assigned, generation_id

    async def seen() -> list[bool]:
        found = consumer(Owner({LANE: 1}), {LANE}, {})
        before = found.opening
        await found.on_partitions_assigned({LANE})
        await asyncio.sleep(0.001)
        meanwhile = found.opening
        await found.perform_seek()
        return [before > 0, meanwhile > 0, found.opening > 0]

    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", stock)
    assert asyncio.run(seen()) == [False, True, False]


def test_a_seek_begins_a_new_reading_so_that_what_was_fetched_before_is_stale() -> None:
    async def seek_twice() -> list[Any]:
        found, seen = consumer(Owner({LANE: 1}), {LANE}, {}), []
        for _ in range(2):
            await found.perform_seek()
            seen.append(found.reading)
        return seen

    first, second = asyncio.run(seek_twice())
    assert first is not second
    assert first.stopped
    assert not second.stopped


class Takes:
    """A reading that gives what it is asked for, in order; `during` happens before each."""

    def __init__(self, *batches: Fetched | None, during: Callable[[], None] = lambda: None) -> None:
        self.batches, self.during = list(batches), during

    async def take(self) -> Fetched | None:
        self.during()
        return self.batches.pop(0)


def test_batches_are_handed_on_in_their_order() -> None:
    async def take() -> list[int]:
        found = consumer(Owner({LANE: 1}), {LANE}, {})
        found.reading = Takes(fetched(1, 2), fetched(3, number=2))
        return [(await found.next_batch()).number for _ in range(2)]

    assert asyncio.run(take()) == [1, 2]


def test_a_batch_that_comes_when_its_assignment_is_over_is_not_handed_on() -> None:
    async def take() -> Fetched:
        found = consumer(Owner({LANE: 1}), {LANE}, {})
        after = Takes(fetched(7))

        def rebalance() -> None:
            found.reading = after

        found.reading = Takes(fetched(1), during=rebalance)
        batch: Fetched = await found.next_batch()
        return batch

    assert asyncio.run(take()).messages[0].offset() == 7


def test_whoever_waits_for_a_batch_while_nothing_is_assigned_gets_the_first_afterwards() -> None:
    async def take() -> Fetched:
        found = consumer(Owner({LANE: 1}), {LANE}, {})

        def revoke() -> None:
            found.reading = None

        found.reading = Takes(None, during=revoke)
        waiting = asyncio.create_task(found.next_batch())
        await asyncio.sleep(0.01)
        found.reading = Takes(fetched(7))
        batch: Fetched = await waiting
        return batch

    assert asyncio.run(take()).messages[0].offset() == 7


@pytest.mark.parametrize(("is_stopped", "ended_by"), [(True, None), (False, "CancelledError")])
def test_a_fetcher_that_is_stopped_in_a_rebalance_ends_and_does_not_crash(
    is_stopped: bool, ended_by: str | None
) -> None:
    """Faust took that for a restart, for which its fetcher has no supervisor: the worker ended with 1."""

    async def scene() -> str | None:
        found = consumer(Owner({LANE: 1}), {LANE}, {})
        fetcher = SimpleNamespace(should_stop=False, wait_for_stopped=asyncio.Event().wait)
        task = asyncio.create_task(found._drain_messages(fetcher))
        await asyncio.sleep(0.05)
        fetcher.should_stop = is_stopped
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        return None if ended is None else type(ended).__name__

    assert asyncio.run(scene()) == ended_by


def test_an_assignment_is_brought_to_work_however_long_its_lanes_take_to_open() -> None:
    """Kafka may be away for longer than Faust's time-out; this one and those after it have to start all the same."""

    async def assign_twice() -> list[str]:
        app = faust.App(
            "test", broker="kafka://127.0.0.1:1", broker_request_timeout=0.05, **transport.SETTINGS
        )
        done: list[str] = []
        recovery, flowing = app.tables.recovery, asyncio.Event()
        recovery.recovery_delay = 0.0

        class Slow:
            def assignment(self) -> set[TP]:
                return {LANE}

            def resume_partitions(self, tps: set[TP]) -> None:
                pass

            async def perform_seek(self) -> None:
                await asyncio.sleep(0.2)
                done.append("seek")

            def resume_flow(self) -> None:
                done.append("flow")
                flowing.set()

        async def started() -> None:
            pass

        app.consumer = Slow()
        app._fetcher = SimpleNamespace(maybe_start=started)
        task = asyncio.create_task(Recovery._restart_recovery.fun(recovery))
        for _ in range(2):
            flowing.clear()
            recovery._generation_id = app.consumer_generation_id
            recovery.signal_recovery_start.set()
            await asyncio.wait_for(flowing.wait(), 5)
        task.cancel()
        return done

    assert asyncio.run(assign_twice()) == ["seek", "flow"] * 2


class SlowOwner(Owner):
    """Opens as long as `may_end` is not set."""

    def __init__(self) -> None:
        super().__init__({LANE: 1})
        self.may_end = threading.Event()

    def open(self, tps: set[TP], committed: dict[TP, Committed]) -> dict[TP, int]:
        starts = super().open(tps, committed)
        assert self.may_end.wait(5)
        self.calls.append("opened")
        return starts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_lanes_are_not_opened_again_while_a_cancelled_seek_still_opens_them() -> None:
    async def seek_cancel_seek() -> Any:
        found = consumer(owner, {LANE}, {})
        first = asyncio.create_task(found.perform_seek())
        await until(lambda: len(owner.calls) == 2)
        first.cancel()
        second = asyncio.create_task(found.perform_seek())
        await asyncio.sleep(0.05)
        assert owner.calls.count(opening) == 1
        owner.may_end.set()
        await second
        return found

    owner = SlowOwner()
    opening = ("open", {LANE}, {})
    found = asyncio.run(seek_cancel_seek())
    assert owner.calls == ["release", opening, "opened", "begin"] * 2
    assert found.reading is not None


def test_lanes_that_were_revoked_while_they_were_opened_are_closed_and_not_read() -> None:
    async def seek_and_revoke() -> Any:
        found = consumer(owner, {LANE}, {})
        seek = asyncio.create_task(found.perform_seek())
        await until(lambda: len(owner.calls) == 2)
        found._assigned = None
        owner.may_end.set()
        await seek
        return found

    owner = SlowOwner()
    found = asyncio.run(seek_and_revoke())
    assert owner.calls[2:] == ["opened", "release"]
    assert found.reading is None


@pytest.mark.parametrize("is_ending", [True, False])
def test_lanes_that_do_not_open_are_no_fault_of_a_process_that_is_ending(is_ending: bool) -> None:
    class Away(Owner):
        def open(self, tps: set[TP], committed: dict[TP, Committed]) -> dict[TP, int]:
            if is_ending:
                found._assigned = None
            raise TimeoutError("Kafka is away")

    found = consumer(Away({LANE: 1}), {LANE}, {})

    async def seek() -> None:
        await found.perform_seek()

    if is_ending:
        asyncio.run(seek())
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(seek())
    assert found.reading is None


def without_stock(owner: Owner, patch: pytest.MonkeyPatch, *hooks: str) -> Any:
    """Give a consumer for which Faust's own part of these hooks, and of a commit, does nothing."""

    async def stock(self: Any, *_: Any) -> None:
        pass

    found = consumer(owner, {LANE}, {})
    found.app.flow_control = SimpleNamespace(suspend=lambda: None, clear=lambda: None)
    found.stop_flow = lambda: None
    found.commit = lambda: stock(found)
    for hook in hooks:
        patch.setattr(driver.Consumer, hook, stock)
    return found


def test_nothing_is_opened_between_a_revocation_and_the_next_assignment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def rebalance() -> list[Any]:
        hooks = ("on_partitions_revoked", "on_partitions_assigned")
        found = without_stock(owner, monkeypatch, *hooks)
        await found.on_partitions_revoked({LANE})
        await found.perform_seek()
        between = list(owner.calls)
        await found.on_partitions_assigned({LANE}, 1)
        await found.perform_seek()
        assert found.reading is not None
        return between

    owner = Owner({LANE: 1})
    assert asyncio.run(rebalance()) == ["drain", "release"]
    assert owner.calls[2:] == ["release", ("open", {LANE}, {}), "begin"]


def test_only_a_position_on_disk_is_committed() -> None:
    async def ask() -> tuple[Any, ...]:
        found = consumer(Owner({LANE: 12}), {LANE, TP("cdc.oa", 0)}, {})
        return list(found._filter_tps_with_pending_acks()), found._new_offset(LANE)

    assert asyncio.run(ask()) == ([LANE], 12)


def test_what_lanes_claim_is_committed_before_anything_is_read() -> None:
    async def seek() -> Any:
        found = consumer(owner, {LANE, refused}, {})
        await found.perform_seek()
        return found

    refused = TP("cdc.oa", 0)
    owner = Owner({LANE: 40, refused: 7})
    owner.refused = {refused}
    found = asyncio.run(seek())

    assert found._thread.commits == [{LANE: (40, "mine")}]
    assert found._committed_offset == {LANE: 40}
    assert owner.calls[-1] == "begin"


def test_lanes_that_all_claim_nothing_are_open_to_be_seen() -> None:
    async def seek() -> Any:
        found = consumer(owner, {LANE}, {})
        await found.perform_seek()
        return found

    owner = Owner({LANE: 40})
    owner.refused = {LANE}
    assert asyncio.run(seek()).reading is not None
    assert owner.calls[-1] == "begin"


@pytest.mark.parametrize("is_revoked", [False, True])
def test_lanes_whose_term_the_group_does_not_take_are_another_workers(is_revoked: bool) -> None:
    async def seek() -> Any:
        found = consumer(owner, {LANE}, {})
        if is_revoked:  # meanwhile

            async def commit(_: Any) -> bool:
                found._assigned = None
                return True

            found._thread.commit = commit
        found._thread.is_ours = False
        await found.perform_seek()
        return found

    owner = Owner({LANE: 40})
    assert asyncio.run(seek()).reading is None
    assert owner.calls == ["release", ("open", {LANE}, {}), "release"]


def test_a_commit_that_was_asked_for_before_a_lane_was_opened_anew_is_not_made_after_it() -> None:
    async def commit() -> list[Any]:
        found = consumer(owner, {LANE, other}, {})
        found._committed_offset = {LANE: 40, other: 40}
        await found._commit({LANE: 41, other: 40})
        await owner.release()
        await found._commit({LANE: 42})
        commits: list[Any] = found._thread.commits
        return commits

    owner, other = Owner({}), TP("cdc.oa", 0)
    owner.terms = {LANE: "mine", other: "mine"}
    assert asyncio.run(commit()) == [{LANE: (41, "mine")}, {}]


def test_a_lane_of_which_nothing_was_published_is_given_back_in_the_term_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker that had it may be back before another has read as far as it: its state is of use still."""

    async def revoke_and_stop() -> list[Any]:
        found = without_stock(owner, monkeypatch, "on_partitions_revoked", "on_stop")
        owner.end = lambda: None
        for quiet in ({}, {LANE: Committed(70, "theirs")}):
            owner.terms, owner.quiet = {LANE: "mine"}, quiet
            await found.on_partitions_revoked({LANE})
        owner.terms = {LANE: "mine"}
        await found.on_stop()
        commits: list[Any] = found._thread.commits
        return commits

    owner: Any = Owner({})
    assert asyncio.run(revoke_and_stop()) == [{LANE: (70, "theirs")}] * 2


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
        reading = found.reading = Reads("", {}, set)
        monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", stock)
        await found.on_partitions_revoked({LANE})
        assert reading.stopped
        assert found.reading is None, "what is still in the stream is stale"

    owner = Owner({LANE: 12})
    asyncio.run(revoke())

    assert owner.calls == ["stop", "drain", "commit", "release", "revoked"]


# -- the member of the group


def test_a_member_that_fetches_nothing_is_never_idle_so_it_does_not_leave_the_group() -> None:
    async def start() -> SubscriptionState:
        thread = transport._GroupThread.__new__(transport._GroupThread)
        subscription = SubscriptionState()
        thread.consumer = SimpleNamespace()
        coordinator = SimpleNamespace(_do_heartbeat=None, _do_commit_offsets=None)
        client = SimpleNamespace(_subscription=subscription, _coordinator=coordinator)
        thread._ensure_consumer = lambda: client
        with pytest.MonkeyPatch.context() as patch:

            async def stock(self: Any) -> None:
                pass

            patch.setattr(driver.AIOKafkaConsumerThread, "on_start", stock)
            await thread.on_start()
        subscription._last_fetch_ended -= 10_000
        return subscription

    assert asyncio.run(start()).fetcher_idle_time == 0


class Member:
    """Stands for aiokafka's consumer and its coordinator."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.commits = error, []
        self._coordinator = self

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(*LANE)}

    async def commit(self, offsets: Any) -> None:
        self.commits.append(offsets)
        if self.error is not None:
            raise self.error

    async def fetch_committed_offsets(self, partitions: list[TopicPartition]) -> Any:
        assert TopicPartition(*LANE) in partitions
        return {TopicPartition(*LANE): OffsetAndMetadata(12, "theirs")}


def group_thread(member: Member) -> Any:
    thread = transport._GroupThread.__new__(transport._GroupThread)
    thread._ensure_consumer = lambda: member
    thread.crashes = []

    async def crash(error: Exception) -> None:
        thread.crashes.append(error)

    thread.crash = crash
    return thread


def test_an_offset_is_committed_with_its_term_and_found_again_with_it() -> None:
    async def commit() -> tuple[Any, ...]:
        thread, other = group_thread(member), TP("cdc.oa", 0)
        both = {LANE: Committed(12, "mine"), other: Committed(7, "mine")}
        took = await thread._commit(both), await thread._commit({other: Committed(7, "mine")})
        return took, await thread.committed({LANE, other})

    member = Member()
    took, found = asyncio.run(commit())
    assert took == (True, False), "the other one is not ours"
    assert member.commits == [{TopicPartition(*LANE): OffsetAndMetadata(12, "mine")}]
    assert found == {LANE: Committed(12, "theirs")}


@pytest.mark.parametrize(
    ("error", "crashes"), [(CommitFailedError("rebalanced"), 0), (KafkaError("no room"), 1)]
)
def test_a_commit_fails_by_a_rebalance_without_harm_and_by_all_else_loudly(
    error: Exception, crashes: int
) -> None:
    thread = group_thread(Member(error))
    thread.log = SimpleNamespace(exception=lambda _: None)
    assert asyncio.run(thread._commit({LANE: Committed(12, "mine")})) is False
    assert len(thread.crashes) == crashes


@pytest.mark.parametrize(
    ("is_active", "generation", "commits"),
    [(True, 7, 1), (False, 7, 0), (True, 8, 0), (True, -1, 0)],
)
def test_an_offset_is_committed_in_the_assignment_that_it_was_asked_for_in_or_not_at_all(
    is_active: bool, generation: int, commits: int
) -> None:
    """aiokafka tried again in the next generation; or in none, which an empty group takes from anybody."""

    async def commit() -> list[Any]:
        sent: list[Any] = []

        async def send(assignment: Any, offsets: Any) -> None:
            sent.append(offsets)

        coordinator = SimpleNamespace(_do_commit_offsets=send, generation=generation)
        thread = group_thread(SimpleNamespace(_coordinator=coordinator))  # type: ignore[arg-type]
        thread.app = SimpleNamespace(consumer_generation_id=7)
        thread._fence()
        try:
            await coordinator._do_commit_offsets(SimpleNamespace(active=is_active), {LANE: 1})
        except IllegalGenerationError:
            assert not commits
        return sent

    assert len(asyncio.run(commit())) == commits


def test_a_last_commit_is_not_taken_for_one_that_is_under_way() -> None:
    """Stock Faust waits for that and leaves it there, so what was drained meanwhile was not committed."""

    async def stop() -> list[str]:
        found, done = consumer(Owner({}), {LANE}, {}), []
        found._commit_fut = asyncio.get_running_loop().create_future()

        async def commit() -> None:
            assert found._commit_fut.done()
            done.append("commit")

        found.commit = commit
        stopping = asyncio.create_task(found._commit_last())
        await asyncio.sleep(0.01)
        done.append("under way")
        found._commit_fut.set_result(None)
        await stopping
        return done

    assert asyncio.run(stop()) == ["under way", "commit"]


def test_only_a_heartbeat_that_the_group_answers_ends_its_silence() -> None:
    async def beat() -> list[bool]:
        thread = transport._GroupThread.__new__(transport._GroupThread)
        thread.consumer = SimpleNamespace(heard=0.0)
        answers = [False, True]

        async def heartbeat() -> bool:
            return answers.pop(0)

        coordinator = SimpleNamespace(_do_heartbeat=heartbeat)
        thread._ensure_consumer = lambda: SimpleNamespace(_coordinator=coordinator)
        thread._listen()
        heard = []
        for _ in range(2):
            thread.consumer.heard = 0.0
            await coordinator._do_heartbeat()
            heard.append(thread.consumer.heard > 0)
        return heard

    assert asyncio.run(beat()) == [False, True]
