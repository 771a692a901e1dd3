"""`tongbu tail`: the records of a topic, decoded, as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from schemas import control
from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.errors import ServiceUnavailable, TongbuError
from schemas.registry import Registry
from tongbu import tail_view, topics
from tongbu.instance import Environment, complete_environment
from tongbu.stack.commands import InstanceName

#: How long Ctrl-C may wait.
_POLL_SECONDS = 0.2
_CONSUMER = {
    "group.id": "tongbu-tail",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.message.max.bytes": 16 * 1024 * 1024,
    "log_level": 0,
}


def tail(
    topic: Annotated[
        str,
        typer.Argument(help="A topic, or an entity such as sales_order, or a source such as erp."),
    ],
    instance: InstanceName = "default",
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Not only what comes from now on.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything, one JSON object per line.")
    ] = False,
) -> None:
    """
    Print decoded records as they come, until Ctrl-C.

    \b
    tongbu tail sales_order                      orders, as they change
    tongbu tail erp --from-beginning --limit 20  the ERP's lane log
    tongbu tail transactions                     with all their records
    tongbu tail dead_letter --from-beginning     what failed, and its end
    tongbu tail customer --json | jq .value.id   every field, for programs
    """
    complete_environment(instance)
    given = Environment()
    bootstrap = given["KAFKA_BOOTSTRAP"]
    name = find(topic, topics.names(bootstrap))
    decoder = Decoder(Registry(given["REGISTRY_URL"], patience=10).schema)
    console = Console(soft_wrap=True, highlight=False)
    with suppress(KeyboardInterrupt):
        for number, message in enumerate(_messages(bootstrap, name, from_beginning), start=1):
            record = decoded(message, decoder)
            if as_json:
                typer.echo(orjson.dumps(record, default=_plain).decode())
            else:
                console.print(tail_view.line(record))
            if number == limit:
                return


def find(wanted: str, existing: set[str]) -> str:
    """Give the topic that a topic's, entity's or source's name means; raise TongbuError, which lists what exists."""
    schemas = {schema.name: schema.topic for schema in Catalog.load().all()}
    for name in (wanted, schemas.get(wanted, ""), f"cdc.{wanted}"):
        if name in existing:
            return name
    known = ", ".join(sorted(name for name in existing if not name.startswith("_")))
    raise TongbuError(
        f"there is no topic `{wanted}`, nor an entity or a source of that name with a topic",
        f"Topics: {known}." if known else "`tongbu apply` makes them.",
    )


def _messages(bootstrap: str, topic: str, from_beginning: bool) -> Iterator[Any]:
    # Asked for before the consumer starts: what is written from here on is shown.
    places = (topics.starts if from_beginning else topics.ends)(bootstrap, [topic])
    consumer = Consumer(_CONSUMER | {"bootstrap.servers": bootstrap})
    consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])
    try:
        while True:
            message = consumer.poll(_POLL_SECONDS)
            if message is None:
                continue
            if message.error():
                raise ServiceUnavailable(
                    f"{topic} can't be read: {message.error().str()}",
                    "Is Kafka well? `tongbu status` tells.",
                )
            yield message
    finally:
        consumer.close()


def decoded(message: Any, decoder: Decoder) -> dict[str, Any]:
    """Give a Kafka message with its value decoded; `kind` is control, tombstone or record, `timestamp` in milliseconds."""
    key, value = message.key(), message.value()
    kind = "record" if value is not None else "tombstone"
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": _plain(key) if key is not None else None,
        "headers": {name: _plain(each) for name, each in message.headers() or []},
        "kind": "control" if control.is_control(key) else kind,
        "value": None if value is None else _value(value, decoder),
    }


def _value(value: bytes, decoder: Decoder) -> Any:
    """Decode Avro (records in records, too) or JSON; what is neither stays bytes."""
    try:
        if not value.startswith(b"\0"):
            return orjson.loads(value)
        found = decoder.decode(value)
    except (ValueError, EOFError):
        return value
    for record in found.get("records", []):
        record["value"] = decoder.decode(record["value"])
    return found


def _plain(value: Any) -> str:
    """Write for people and JSON what JSON has no type for."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
        return value.hex()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
