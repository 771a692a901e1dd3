"""The private hooks of the pinned Faust and aiokafka that the transport stands on."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.transport import BATCH_RECORDS, BatchScheduler, Fetched


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")]
)
def test_the_packages_are_those_that_the_hooks_were_read_in(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.Consumer, "perform_seek", ["self"]),
        (driver.Consumer, "seek_to_committed", ["self"]),
        (driver.Consumer, "_new_offset", ["self", "tp"]),
        (driver.Consumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (driver.Consumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
        (driver.Consumer, "_new_consumer_thread", ["self"]),
        (driver.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (driver.Consumer, "on_stop", ["self"]),
        (driver.AIOKafkaConsumerThread, "on_start", ["self"]),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
        (TableManager, "on_start", ["self"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hook_is_called_as_the_transport_expects(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_a_fetch_hands_back_records_by_partition() -> None:
    parameters = list(inspect.signature(driver.AIOKafkaConsumerThread._fetch_records).parameters)

    assert parameters == ["self", "consumer", "active_partitions", "timeout", "max_records"]


def test_the_prefetch_backoff_is_still_what_keeps_idle_partitions_waiting() -> None:
    assert "_prefetch_backoff" in inspect.getsource(Fetcher)
    assert "calculate_backoff" in inspect.getsource(Fetcher._get_actions_per_node)


def test_a_fetch_becomes_batches_of_bounded_size_that_keep_order_and_generation() -> None:
    record = SimpleNamespace(topic="cdc.erp", partition=0, timestamp=1, timestamp_type=1)
    fetched = Fetched(
        SimpleNamespace(**vars(record), offset=offset) for offset in range(BATCH_RECORDS + 3)
    )
    fetched.generation = 4
    tp = TP("cdc.erp", 0)

    batches = [batch for _, batch in BatchScheduler().iterate({tp: fetched})]

    assert [len(batch.value[1]) for batch in batches] == [BATCH_RECORDS, 3]
    assert [batch.offset for batch in batches] == [BATCH_RECORDS - 1, BATCH_RECORDS + 2]
    assert {batch.value[0] for batch in batches} == {4}
    assert [each.offset for batch in batches for each in batch.value[1]] == list(
        range(BATCH_RECORDS + 3)
    )
