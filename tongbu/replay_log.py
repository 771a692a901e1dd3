"""A recorded lane log becomes a log of a replay's namespace: what is adapted, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec
from confluent_kafka import Producer

from schemas import control
from schemas.control import Declarations
from schemas.declarations import to_bundle
from schemas.errors import TongbuError
from schemas.registry import Registry
from streams.settings import REPLAY_OFFSET
from tongbu.deploy import check
from tongbu.deploy.deployment import Deployment
from tongbu.lane_files import Recorded
from tongbu.standing import KEYS


def since(records: Iterable[Recorded], timestamp: int) -> Iterator[Recorded]:
    """
    Give a lane log from a time on (ms), with the standing control records that were in force then.

    The images of rows that changed only before are not there: what a replay makes of it is not complete.
    """
    standing: dict[bytes, Recorded] = {}
    rest = iter(records)
    for record in rest:
        if record.timestamp >= timestamp:
            yield from sorted(standing.values(), key=lambda each: each.offset)
            yield from chain([record], rest)
            return
        if record.key in KEYS:
            standing[record.key] = record


def declared_in(deployment: Deployment) -> Callable[[Declarations], Declarations]:
    """
    Give what puts the mappings and rules of a deployment's folder, read now, in the place of recorded ones.

    Their entities have the schemas of today. Raise DeclarationError for a mapping or a rule that does not fit them.
    """
    mapped, ruled = deployment.mappings, deployment.rules
    check.check_sources(deployment.sources, [*mapped, *ruled], [])
    check.check_shapes(deployment.catalog, mapped, ruled)

    def replace(recorded: Declarations) -> Declarations:
        mappings, rules = (
            [each for each in loaded if each.value.source == recorded.source]
            for loaded in (mapped, ruled)
        )
        entities = {deployment.catalog.entities[each.value.entity].topic for each in mappings}
        schemas = [
            control.OutputSchema(topic=each.topic, id=0, schema=each.schema)
            for each in deployment.catalog.entities.values()
            if each.topic in entities
        ]
        schemas += [each for each in recorded.schemas if each.topic not in entities]
        return msgspec.structs.replace(
            recorded,
            hash="tried",
            mappings=tuple(map(to_bundle, mappings)),
            rules=tuple(map(to_bundle, rules)),
            schemas=tuple(schemas),
        )

    return replace


class Adapter:
    """
    Makes declarations of a recording fit here: schema ids of this registry, and what `override` makes of them.
    """

    def __init__(
        self,
        registry: Registry,
        namespace: str,
        override: Callable[[Declarations], Declarations] | None = None,
    ) -> None:
        self._registry = registry
        self._namespace = namespace
        self._override = override
        #: Subjects that were registered for this replay.
        self.subjects: set[str] = set()

    def adapt(self, record: Recorded) -> Recorded:
        """Give the record as it goes into the replay's log."""
        if record.key != control.KEY_PREFIX + b"declarations":
            return record
        declared = control.decode(record.value or b"")
        assert isinstance(declared, Declarations)
        if self._override is not None:
            declared = self._override(declared)
        schemas = tuple(self._registered(schema) for schema in declared.schemas)
        adapted = msgspec.structs.replace(declared, schemas=schemas)
        return msgspec.structs.replace(record, value=control.encode(adapted)[1])

    def _registered(self, schema: control.OutputSchema) -> control.OutputSchema:
        """Find a schema's id, or register it under a subject of the namespace: live subjects stay as they are."""
        subject = f"{schema.topic}-value"
        found = self._registry.lookup(subject, schema.schema)
        if found is None:
            subject = self._namespace + subject
            found = self._registry.register(subject, schema.schema)
            self.subjects.add(subject)
        return msgspec.structs.replace(schema, id=found)


def load(
    bootstrap: str, namespace: str, records: Iterable[Recorded], advance: Callable[[int], Any]
) -> int:
    """Produce records, in order, each with its original offset and time; give how many. Raise TongbuError."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.max.bytes": 16 * 1024 * 1024,
            "linger.ms": 20,
        }
    )
    failed: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(f"{message.topic()}: {error}")

    count = 0
    for record in records:
        _produce(producer, namespace, record, delivered)
        count += 1
        advance(1)
    producer.flush(60)
    if failed or len(producer):
        raise TongbuError(
            f"Kafka did not take the log: {failed[0] if failed else 'it does not answer'}",
            "Look at the broker: `tongbu status`.",
        )
    return count


def _produce(
    producer: Producer, namespace: str, record: Recorded, delivered: Callable[[Any, Any], None]
) -> None:
    headers = [*record.headers, (REPLAY_OFFSET, str(record.offset).encode())]
    while True:
        try:
            producer.produce(
                namespace + record.topic,
                record.value,
                record.key,
                partition=0,
                timestamp=record.timestamp,
                headers=headers,
                on_delivery=delivered,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
