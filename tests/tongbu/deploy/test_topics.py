"""Topics that are there and are not as declared, on the stack's broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from schemas.errors import TongbuError
from tongbu.deploy import topics
from tongbu.deploy.deployment import Deployment

NAMESPACE = "declared."
TRANSACTIONS = f"{NAMESPACE}canonical.transactions.v1"


@pytest.fixture(scope="module")
def made(stack: dict[str, str]) -> Iterator[None]:
    """The topics as they are declared."""
    first = Deployment(stack, NAMESPACE)
    for change in topics.plan(first):
        change.perform()
    wait_for(first)
    yield
    gone = first.admin.delete_topics([topic.name for topic in topics.wanted(first)])
    for future in gone.values():
        future.result(20)


@pytest.fixture
def subject(made: None, stack: dict[str, str]) -> Deployment:
    """A deployment of which a test may change the declarations."""
    return Deployment(stack, NAMESPACE)


def wait_for(deployment: Deployment) -> None:
    """Wait until there is nothing to do: the broker tells of a new topic a moment after it has made it."""
    end = time.monotonic() + 20
    while list(topics.plan(deployment)):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_what_is_as_declared_needs_no_change(subject: Deployment) -> None:
    assert list(topics.plan(subject)) == []


def test_a_new_source_gets_its_partition_of_the_transactions(subject: Deployment) -> None:
    oa = subject.sources["oa"]
    subject.sources["crm"] = oa.model_copy(update={"partition": 2})

    made = list(topics.plan(subject))
    for change in made:
        change.perform()

    assert [(each.name, each.action) for each in made if each.name == TRANSACTIONS] == [
        (TRANSACTIONS, "grow")
    ]
    wait_for(subject)
    assert len(subject.admin.list_topics(timeout=10).topics[TRANSACTIONS].partitions) == 3


def test_a_source_that_is_gone_leaves_its_partition(subject: Deployment) -> None:
    del subject.sources["oa"]

    assert list(topics.plan(subject)) == []


def test_another_number_of_partitions_of_an_entity_is_refused(subject: Deployment) -> None:
    subject.topic_defaults["entity"]["partitions"] = 8

    with pytest.raises(TongbuError, match="has 4 partitions, and 8 are declared") as refused:
        list(topics.plan(subject))

    assert "Declare 4" in refused.value.remedy
