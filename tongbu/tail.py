"""`tongbu tail`: the records of a topic, decoded, as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.text import Text

from schemas import control
from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.errors import ServiceUnavailable, TongbuError
from schemas.registry import Registry
from tongbu.instance import complete_environment
from tongbu.stack.commands import InstanceName

_SECONDS = 10


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """
    Print decoded records as they come, until Ctrl-C.

    Examples: tongbu tail sales_order; tongbu tail erp --from-beginning --limit 20; tongbu tail hub.dead-letter.v1 --json
    """
    complete_environment(instance)
    bootstrap = os.environ["KAFKA_BOOTSTRAP"]
    name = _topic(bootstrap, topic)
    decoder = Decoder(Registry(os.environ["REGISTRY_URL"], patience=10).schema)
    console = Console(soft_wrap=True, highlight=False)
    for number, message in enumerate(_messages(bootstrap, name, from_beginning), start=1):
        record = _decoded(message, decoder)
        if as_json:
            typer.echo(orjson.dumps(record, default=_text).decode())
        else:
            console.print(_line(record))
        if number == limit:
            return


def _topic(bootstrap: str, wanted: str) -> str:
    """Find the topic that is meant."""
    try:
        existing = set(
            AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
            .list_topics(timeout=_SECONDS)
            .topics
        )
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka at {bootstrap} does not answer", "Is it up? `tongbu status` tells."
        ) from error
    entity = Catalog.load().entities.get(wanted)
    for name in (wanted, entity.topic if entity else "", f"cdc.{wanted}"):
        if name in existing:
            return name
    known = ", ".join(sorted(name for name in existing if not name.startswith("_")))
    raise TongbuError(
        f"there is no topic or entity `{wanted}`",
        f"There are: {known}." if known else "`tongbu apply` makes them.",
    )


def _messages(bootstrap: str, topic: str, from_beginning: bool) -> Iterator[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tongbu-tail",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    start = OFFSET_BEGINNING if from_beginning else OFFSET_END
    try:
        partitions = consumer.list_topics(topic, _SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, start) for number in partitions])
        while True:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                yield message
    except KeyboardInterrupt:
        return
    finally:
        consumer.close()


def _decoded(message: Any, decoder: Decoder) -> dict[str, Any]:
    key, value = message.key(), message.value()
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": None if key is None else key.decode(errors="replace"),
        "headers": {name: each.decode(errors="replace") for name, each in message.headers() or []},
        "kind": "control"
        if control.is_control(key)
        else "tombstone"
        if value is None
        else "record",
        "value": None if value is None else _value(value, decoder),
    }


def _value(value: bytes, decoder: Decoder) -> Any:
    if not value.startswith(b"\0"):
        return orjson.loads(value)
    decoded = decoder.decode(value)
    for record in decoded.get("records", []):
        if isinstance(record.get("value"), bytes):
            record["value"] = decoder.decode(record["value"])
    return decoded


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _line(record: dict[str, Any]) -> Text:
    """One line per record: where, key, and the value without what is empty."""
    place = f"{record['topic']}/{record['partition']}/{record['offset']}"
    value = orjson.dumps(_short(record["value"]), default=_text).decode()
    style = {"control": "magenta", "tombstone": "red"}.get(record["kind"], "")
    return Text.assemble((place, "dim"), " ", (str(record["key"]), "cyan"), " ", (value, style))


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items() if each not in (None, {}, [])}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return value
