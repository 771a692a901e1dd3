"""A recorded lane log becomes a log of a replay's namespace: what is adapted, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec
from confluent_kafka import Producer

from schemas import control
from schemas.control import Declarations
from schemas.declarations import Declared, Mapping, to_bundle
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


class Tried:
    """
    Puts the mappings and rules of a deployment's folder, read now, in the place of recorded ones.

    Their entities have the schemas of today. A mapping waits until all of its tables are captured. Raise DeclarationError for
    a mapping or a rule that does not fit.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._mappings, self._rules = deployment.mappings, deployment.rules
        self._catalog = deployment.catalog
        self._waiting: dict[str, list[Declared[Mapping]]] = {}
        check.check_sources(deployment.sources, [*self._mappings, *self._rules], [])
        check.check_shapes(self._catalog, self._mappings, self._rules)

    def replace(self, recorded: Declarations, tables: frozenset[str] | None) -> Declarations:
        """Give what is in force in place of recorded declarations; `tables` are captured there, None: not known yet."""
        source = recorded.source
        own = [each for each in self._mappings if each.value.source == source]
        mappings = [each for each in own if tables is None or tables.issuperset(each.value.tables)]
        self._waiting[source] = [each for each in own if each not in mappings]
        topics = {self._catalog.entities[each.value.entity].topic for each in mappings}
        schemas = [
            control.OutputSchema(topic=each.topic, id=0, schema=each.schema)
            for each in self._catalog.entities.values()
            if each.topic in topics
        ]
        schemas += [each for each in recorded.schemas if each.topic not in topics]
        return msgspec.structs.replace(
            recorded,
            hash="tried",
            mappings=tuple(map(to_bundle, mappings)),
            rules=tuple(to_bundle(each) for each in self._rules if each.value.source == source),
            schemas=tuple(schemas),
        )

    def check_all_used(self) -> None:
        """Raise DeclarationError for a mapping that still waits at the end of the log."""
        for each in (each for waiting in self._waiting.values() for each in waiting):
            what = "the recording never has all of its tables captured together with declarations"
            raise each.error(("from",), what, "Record anew after `tongbu apply`, or leave it out.")


class Adapter:
    """
    Makes declarations of a recording fit here: schema ids of this registry, and what `override` makes of them.
    """

    def __init__(
        self,
        registry: Registry,
        namespace: str,
        override: Tried | None = None,
    ) -> None:
        self._registry = registry
        self._namespace = namespace
        self._override = override
        self._tables: dict[str, frozenset[str]] = {}
        #: Subjects that were registered for this replay.
        self.subjects: set[str] = set()

    def adapt(self, record: Recorded) -> Recorded:
        """Give the record as it goes into the replay's log."""
        if record.key == control.KEY_PREFIX + b"captured-schema":
            captured = control.decode(record.value or b"")
            assert isinstance(captured, control.CapturedSchema)
            self._tables[captured.source] = frozenset(each.qualified for each in captured.tables)
        if record.key != control.KEY_PREFIX + b"declarations":
            return record
        declared = control.decode(record.value or b"")
        assert isinstance(declared, Declarations)
        if self._override is not None:
            declared = self._override.replace(declared, self._tables.get(declared.source))
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
