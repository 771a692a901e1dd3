"""What waits in the dead-letter topic."""

from __future__ import annotations

from schemas.codec import Decoder
from schemas.registry import Registry
from tongbu import topics

TOPIC = "hub.dead-letter.v1"


def open_letters(bootstrap: str, registry: Registry) -> list[dict[str, str | None]]:
    """Give the letters that are open, oldest first: id, source, entity and entity_id (if known), stage, code."""
    decoder = Decoder(registry.schema)
    letters: dict[str, dict[str, str | None]] = {}
    for partition in topics.partitions(bootstrap, TOPIC):
        place = (TOPIC, partition)
        start = topics.starts(bootstrap, [TOPIC])[place]
        end = topics.ends(bootstrap, [TOPIC])[place]
        for message in topics.read(bootstrap, TOPIC, partition, start, end):
            letter = decoder.decode(message.value())
            letters.pop(letter["id"], None)
            if letter["state"] == "open":
                names = ("id", "source", "entity", "entity_id", "stage", "code")
                letters[letter["id"]] = {name: letter[name] for name in names}
    return list(letters.values())
