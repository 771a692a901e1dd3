"""Topics of a replay: the declared ones under its namespace, with lane logs that keep everything as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

from schemas.errors import TongbuError
from tongbu.deploy import topics
from tongbu.deploy.deployment import Deployment

_SECONDS = 20.0
#: A group is busy until the session of its last static member has timed out.
_GROUPS_SECONDS = 12.0


@contextmanager
def created(
    environment: Mapping[str, str], namespace: str, groups: list[str], *, keep: bool
) -> Iterator[None]:
    """Make the topics; delete them and the consumer groups afterwards."""
    deployment = Deployment(dict(environment), namespace)
    wanted = [
        _new(deployment, topic)
        for topic in topics.wanted(deployment)
        if _has_part(topic, namespace)
    ]
    _all_done(deployment.admin.create_topics(wanted))
    try:
        yield
    finally:
        if not keep:
            _all_done(deployment.admin.delete_topics([topic.topic for topic in wanted]))
            _delete_groups(deployment, groups)


def _has_part(topic: topics.Topic, namespace: str) -> bool:
    """Tell whether a replay uses a topic: there are no connectors, so no history of schemas."""
    return not topic.name.startswith(f"{namespace}_schema_history.")


def _new(deployment: Deployment, topic: topics.Topic) -> NewTopic:
    config = topic.config
    if topic.name in map(deployment.lane_topic, deployment.sources):
        config = config | {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    return NewTopic(topic.name, topic.partitions, topics.REPLICAS, config=config)


def _all_done(futures: Mapping[str, Future[Any]]) -> None:
    for name, future in futures.items():
        try:
            future.result(_SECONDS)
        except KafkaException as error:
            raise TongbuError(f"topic {name}: {error.args[0].str()}") from error


def _delete_groups(deployment: Deployment, groups: list[str]) -> None:
    """Delete groups as their members leave; one that stays busy vanishes later by itself, with its offsets."""
    end = time.monotonic() + _GROUPS_SECONDS
    left = groups
    while left and time.monotonic() < end:
        futures = deployment.admin.delete_consumer_groups(left)
        left = [group for group, future in futures.items() if _is_busy(future)]
        time.sleep(0.5 if left else 0.0)


def _is_busy(future: Future[Any]) -> bool:
    try:
        future.result(_SECONDS)
    except KafkaException as error:
        return bool(error.args[0].name() == "NON_EMPTY_GROUP")
    return False
