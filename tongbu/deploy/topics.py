"""Topics: created and configured from connectors-config/topics.yaml, never by auto-creation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from schemas.errors import TongbuError
from tongbu.deploy.deployment import Change, Deployment

_SECONDS = 20
#: As many replicas as the brokers' `default.replication.factor` says (KIP-464): what a cluster can bear is its owner's to say.
REPLICAS = -1


@dataclass(frozen=True)
class Topic:
    """A topic as declared. One that `grows` may get more partitions: its records name theirs, no key chooses it."""

    name: str
    partitions: int
    config: dict[str, str]
    grows: bool = False


def wanted(deployment: Deployment) -> list[Topic]:
    """Give every topic that the declarations need."""
    defaults, prefix = deployment.topic_defaults, deployment.namespace

    def topic(name: str, kind: str, partitions: int | None = None) -> Topic:
        config = {key: str(value) for key, value in defaults[kind]["config"].items()}
        return Topic(prefix + name, partitions or defaults[kind]["partitions"], config)

    sources = deployment.sources
    found = [topic(f"cdc.{name}", "lane") for name in sources]
    found += [
        topic(f"_schema_history.{name}", "schema_history")
        for name, source in sources.items()
        if source.database != "postgresql"
    ]
    found += [topic(entity.topic, "entity") for entity in deployment.catalog.entities.values()]
    partitions = max(source.partition for source in sources.values()) + 1
    transactions = topic(
        deployment.catalog.record("transactions").topic, "transactions", partitions
    )
    found.append(replace(transactions, grows=True))
    found.append(topic(deployment.catalog.record("dead_letter").topic, "dead_letter"))
    return found


def create_history(deployment: Deployment, name: str) -> None:
    """Create the topic of a schema history, where it is not there yet."""
    default = deployment.topic_defaults["schema_history"]
    if name not in deployment.admin.list_topics(timeout=_SECONDS).topics:
        config = {key: str(value) for key, value in default["config"].items()}
        _create(deployment, Topic(name, default["partitions"], config))


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give what is missing or differs."""
    twice = _partition_twice(deployment)
    if twice:
        raise TongbuError(
            f"streams/sources.yaml: {twice} share a partition of canonical.transactions.v1",
            "Give each source a partition of its own.",
        )
    existing = deployment.admin.list_topics(timeout=_SECONDS).topics
    topics = wanted(deployment)
    for topic in topics:
        if topic.name not in existing:
            detail = f"{topic.partitions} partitions, {topic.config['cleanup.policy']}"
            yield Change(
                "topic",
                topic.name,
                "create",
                detail,
                partial(_create, deployment, topic),
            )
    present = [topic for topic in topics if topic.name in existing]
    for topic in present:
        yield from _grow(deployment, topic, len(existing[topic.name].partitions))
    yield from _configure(deployment, present)


def _partition_twice(deployment: Deployment) -> str:
    seen: dict[int, str] = {}
    for name, source in deployment.sources.items():
        if source.partition in seen:
            return f"{seen[source.partition]} and {name}"
        seen[source.partition] = name
    return ""


def _create(deployment: Deployment, topic: Topic) -> None:
    new = NewTopic(topic.name, topic.partitions, REPLICAS, config=topic.config)
    _done(deployment.admin.create_topics([new])[topic.name], topic.name)


def _grow(deployment: Deployment, topic: Topic, live: int) -> Iterator[Change]:
    """Give what makes a topic as wide as declared; raise TongbuError where keys would get another partition by it."""
    if topic.grows and topic.partitions > live:
        detail = f"{live} -> {topic.partitions} partitions"
        yield Change("topic", topic.name, "grow", detail, partial(_widen, deployment, topic))
    elif not topic.grows and topic.partitions != live:
        raise TongbuError(
            f"topic {topic.name} has {live} partitions, and {topic.partitions} are declared: "
            "with another number the records of an id would no longer be in order",
            f"Declare {live} in connectors-config/topics.yaml.",
        )


def _widen(deployment: Deployment, topic: Topic) -> None:
    wider = NewPartitions(topic.name, topic.partitions)
    _done(deployment.admin.create_partitions([wider])[topic.name], topic.name)


def _configure(deployment: Deployment, topics: list[Topic]) -> Iterator[Change]:
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    described = deployment.admin.describe_configs(resources) if resources else {}
    for topic, resource in zip(topics, resources, strict=True):
        live = described[resource].result(_SECONDS)
        differing = {
            key: value
            for key, value in topic.config.items()
            if live[key].value != value
            or live[key].source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        }
        if differing:
            detail = ", ".join(
                f"{key} {live[key].value} -> {value}" for key, value in differing.items()
            )
            yield Change(
                "topic",
                topic.name,
                "configure",
                detail,
                partial(_alter, deployment, topic, differing),
            )


def _alter(deployment: Deployment, topic: Topic, differing: dict[str, str]) -> None:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in differing.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
    _done(deployment.admin.incremental_alter_configs([resource])[resource], topic.name)


def _done(future: object, name: str) -> None:
    try:
        future.result(_SECONDS)  # type: ignore[attr-defined]
    except KafkaException as error:
        raise TongbuError(f"topic {name}: {error.args[0].str()}") from error
