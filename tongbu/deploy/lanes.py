"""Lane logs: their first record, the captured schema and the declarations, each appended when it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import orjson
from confluent_kafka import Producer, TopicCollection

from schemas import control, lane_offset
from schemas.codec import Decoder
from schemas.declarations import Mirror, to_bundle
from schemas.errors import TongbuError
from tongbu import topics
from tongbu.deploy import captured
from tongbu.deploy.connectors import common_settings
from tongbu.deploy.deployment import Change, Deployment
from tongbu.deploy.known import Known

_SECONDS = 20


def plan_lanes(deployment: Deployment) -> Iterator[Change]:
    """
    Give the lane logs that have no `lane` record: it must stand there before schema and declarations.

    Into a log that was made anew a connector may have written before it: nothing is made of that.
    """
    for source in deployment.sources:
        if _exists(deployment, source):
            known = read(deployment, source)
            if known.lane is not None or known.begins > 0:
                continue  # its retention has passed the first record; the state of the lane knows it
        epoch = _next_epoch(deployment, source)
        anew = f", the log was made anew: after it `tongbu recapture {source}`" if epoch > 1 else ""
        do = partial(_open, deployment, source, epoch)
        yield Change("lane", source, "open", f"epoch {epoch}{anew}", do)


def _next_epoch(deployment: Deployment, source: str) -> int:
    """Give the epoch above that of what a former log of the source has published: targets pass over lower versions."""
    topic = f"{deployment.namespace}{deployment.catalog.record('transactions').topic}"
    place = topic, deployment.sources[source].partition
    if topic not in topics.names(deployment.bootstrap):
        return 1
    end = topics.ends(deployment.bootstrap, [topic]).get(place, 0)
    start = topics.starts(deployment.bootstrap, [topic]).get(place, 0)
    epoch = 0
    for message in topics.read(deployment.bootstrap, *place, max(start, end - 1), end):
        told = Decoder(deployment.registry.schema).decode(message.value())
        epoch, _ = lane_offset.unpack(told["lane_offset"])
    return epoch + 1


def plan_captured(deployment: Deployment) -> Iterator[Change]:
    """
    Give the sources whose live tables differ from the captured schema in force.

    Tables that are no longer wanted stay in it (`plan_released`): the declarations in force may still read them, and a
    lane can't go on without a table that they read.
    """
    for name, source in deployment.sources.items():
        dsn = deployment.environment[f"{name.upper()}_DSN"]
        live = captured.read(name, source, dsn, deployment.tables_of(name))
        known = read(deployment, name).captured if _exists(deployment, name) else None
        wanted = live if known is None else _with_unwanted(live, known)
        if wanted != known:
            detail = f"{len(live.tables)} tables" + ("" if known is None else ", changed")
            yield Change(
                "captured-schema", name, "append", detail, partial(append, deployment, wanted)
            )


def plan_released(deployment: Deployment) -> Iterator[Change]:
    """Give the sources whose captured schema has tables that the declarations, in force by now, do not read any more."""
    for name in deployment.sources:
        known = read(deployment, name).captured if _exists(deployment, name) else None
        if known is None:
            continue
        wanted = {*deployment.tables_of(name)}
        kept = tuple(table for table in known.tables if table.qualified in wanted)
        if kept != known.tables:
            unwanted = ", ".join(
                table.qualified for table in known.tables if table.qualified not in wanted
            )
            record = msgspec.structs.replace(known, tables=kept)
            yield Change(
                "captured-schema",
                name,
                "append",
                f"without {unwanted}",
                partial(append, deployment, record),
            )


def _with_unwanted(
    live: control.CapturedSchema, known: control.CapturedSchema
) -> control.CapturedSchema:
    wanted = {table.qualified: table for table in live.tables}
    tables = {table.qualified: table for table in known.tables} | wanted
    return msgspec.structs.replace(live, tables=tuple(tables[name] for name in sorted(tables)))


def plan_declarations(deployment: Deployment) -> Iterator[Change]:
    """Give the sources whose declarations differ from those in force."""
    for name in deployment.sources:
        bundle = declarations(deployment, name)
        known = read(deployment, name).declarations if _exists(deployment, name) else None
        if known is None or bundle is None or bundle.hash != known.hash:
            yield Change(
                "declarations",
                name,
                "append",
                _summary(deployment, name),
                partial(_append_declarations, deployment, name),
            )


def declarations(deployment: Deployment, source: str) -> control.Declarations | None:
    """Give the bundle of a source; None while its schemas are not registered."""
    mappings = [each for each in deployment.mappings if each.value.source == source]
    topics = {f"canonical.{each.value.entity}.v{each.value.major}" for each in mappings}
    schemas = []
    for schema in deployment.catalog.all():
        if schema.topic in topics or schema.name in deployment.catalog.records:
            schema_id = deployment.registry.lookup(schema.subject, schema.schema)
            if schema_id is None:
                return None
            schemas.append(
                control.OutputSchema(topic=schema.topic, id=schema_id, schema=schema.schema)
            )
    content: dict[str, Any] = {
        "source": source,
        "zone": deployment.sources[source].zone,
        "unavailable_placeholder": common_settings()["unavailable.value.placeholder"],
        "mappings": tuple(to_bundle(each) for each in mappings),
        "rules": tuple(to_bundle(each) for each in deployment.rules if each.value.source == source),
        "schemas": tuple(schemas),
    }
    if mirrored := _mirrored(deployment.mirrors_of(source)):
        content["mirrors"] = mirrored
    canonical = orjson.dumps(msgspec.to_builtins(content), option=orjson.OPT_SORT_KEYS)
    return control.Declarations(hash=f"sha256:{hashlib.sha256(canonical).hexdigest()}", **content)


def _mirrored(mirrors: Iterable[Mirror]) -> tuple[control.Mirrored, ...]:
    """Give the mirrored tables of a source's mirrors, each once, with all its targets."""
    targets: dict[str, dict[str, str]] = {}
    without: dict[str, set[str]] = {}
    for mirror in mirrors:
        for table, name in mirror.tables.items():
            targets.setdefault(table, {})[mirror.binding] = name
            without.setdefault(table, set()).update(mirror.without.get(table, ()))
    return tuple(
        control.Mirrored(table=table, targets=found, without=tuple(sorted(without[table])))
        for table, found in sorted(targets.items())
    )


def read(deployment: Deployment, source: str) -> Known:
    """Read the last control records of a lane log."""
    known, topic = Known(), deployment.lane_topic(source)
    start = topics.starts(deployment.bootstrap, [topic])[topic, 0]
    end = topics.ends(deployment.bootstrap, [topic])[topic, 0]
    known.begins = start
    for message in topics.read(deployment.bootstrap, topic, 0, start, end):
        known.take(message, source)
    return known


def require(deployment: Deployment, source: str) -> None:
    """Raise TongbuError where a source has no lane log, to which something is to be appended."""
    if not _exists(deployment, source):
        raise TongbuError(f"source {source} has no lane log yet", "`tongbu apply` makes it.")


def append(deployment: Deployment, *records: control.ControlRecord) -> int:
    """Append control records to their sources' lane logs, in order; give the Kafka offset of the last."""
    failures: list[str] = []
    offsets: list[int] = []

    def delivered(error: Any, message: Any) -> None:
        if error:
            failures.append(f"{message.topic()}: {error}")
        else:
            offsets.append(message.offset())

    producer = Producer(
        {
            "bootstrap.servers": deployment.bootstrap,
            "enable.idempotence": True,
            "delivery.timeout.ms": _SECONDS * 1000,
            "message.max.bytes": 16 * 1024 * 1024,
            "log_level": 0,
        }
    )
    for record in records:
        key, value = control.encode(record)
        topic = deployment.lane_topic(record.source)
        producer.produce(topic, value, key, 0, on_delivery=delivered)
    producer.flush(_SECONDS + 5)
    if len(offsets) < len(records):
        why = failures[0] if failures else "the broker did not answer"
        raise TongbuError(why, "Is Kafka up? `tongbu status` tells.")
    return offsets[-1]


def _open(deployment: Deployment, source: str, epoch: int) -> None:
    topic = deployment.lane_topic(source)
    described = deployment.admin.describe_topics(TopicCollection([topic]))[topic].result(_SECONDS)
    append(deployment, control.Lane(source=source, epoch=epoch, topic_id=str(described.topic_id)))


def _append_declarations(deployment: Deployment, source: str) -> None:
    bundle = declarations(deployment, source)
    if bundle is None:
        raise TongbuError(
            f"source {source}: its schemas are not registered", "Run `tongbu apply` without --only."
        )
    append(deployment, bundle)


def _exists(deployment: Deployment, source: str) -> bool:
    return deployment.lane_topic(source) in deployment.admin.list_topics(timeout=_SECONDS).topics


def _summary(deployment: Deployment, source: str) -> str:
    mappings = sum(each.value.source == source for each in deployment.mappings)
    rules = sum(each.value.source == source for each in deployment.rules)
    return "; ".join(
        [
            f"{mappings} mappings, {rules} rules",
            *left_out_elsewhere(deployment.mirrors_of(source)),
        ]
    )


def left_out_elsewhere(mirrors: Sequence[Mirror]) -> Iterator[str]:
    """Say which targets lack a column of a mirrored table because another one is not to get it: all get the same rows."""
    for table in _mirrored(mirrors):
        for column in table.without:
            named = {
                each.binding for each in mirrors if column in each.without.get(table.table, ())
            }
            if others := sorted(table.targets.keys() - named):
                yield (
                    f"{table.table}.{column} is left out of {', '.join(others)}, too, and dropped there, "
                    f"as {', '.join(sorted(named))} is not to get it"
                )
