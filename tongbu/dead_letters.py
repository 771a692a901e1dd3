"""What waits in the dead-letter topic."""

from __future__ import annotations

from typing import Any

from schemas.codec import Decoder
from schemas.registry import Registry
from tongbu import topics

TOPIC = "hub.dead-letter.v1"


def open_letters(bootstrap: str, registry: Registry) -> list[dict[str, str | None]]:
    """Give the letters that are open, oldest first: id, source, entity and entity_id (if known), stage, code."""
    names = ("id", "source", "entity", "entity_id", "stage", "code")
    return [{name: letter[name] for name in names} for letter in read(bootstrap, registry)]


def table_of(letter: dict[str, Any]) -> str | None:
    """Give the quarantined table that a letter tells of; None where it is another letter."""
    return (
        letter["id"].partition("/table/")[2]
        if letter["stage"] == "quarantine" and not letter["entity"]
        else None
    )


def read(bootstrap: str, registry: Registry, *, originals: bool = False) -> list[dict[str, Any]]:
    """
    Give the letters that are open, oldest first, with all their fields.

    The sealed original, which may be of any size, only where it is asked for: there may be very many letters.
    """
    decoder = Decoder(registry.schema)
    letters: dict[str, dict[str, Any]] = {}
    for partition in topics.partitions(bootstrap, TOPIC):
        place = (TOPIC, partition)
        start = topics.starts(bootstrap, [TOPIC])[place]
        end = topics.ends(bootstrap, [TOPIC])[place]
        for message in topics.read(bootstrap, TOPIC, partition, start, end):
            letter = decoder.decode(message.value())
            letters.pop(letter["id"], None)
            if letter["state"] == "open":
                if not originals:
                    del letter["sealed"]
                letters[letter["id"]] = letter
    return list(letters.values())
