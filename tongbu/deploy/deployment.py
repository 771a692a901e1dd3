"""What a deployment works on: the declarations, and the way to the services that shall agree with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from ruamel.yaml import YAML

from schemas.catalog import Catalog
from schemas.declarations import (
    Binding,
    Declared,
    Mapping,
    Mirror,
    Rule,
    Source,
    load_bindings,
    load_mappings,
    load_mirrors,
    load_rules,
    load_sources,
)
from schemas.errors import DeclarationError, ServiceUnavailable, TongbuError
from schemas.registry import Registry
from sink_writers.bindings import FOLDER as BINDINGS

CONNECTORS = Path(__file__).resolve().parents[2] / "connectors-config"
_STREAMS = Path(str(files("streams")))


def connector_settings(name: str) -> dict[str, str]:
    """
    Read a file of connectors-config, e.g. `sources/erp.json`: setting -> value, both texts.

    Raise DeclarationError for one that is not there or no JSON, for a setting that stands twice, and for a value that is no
    text: Kafka Connect would make one of it, and `plan` see a difference for ever.
    """
    file = CONNECTORS / name
    try:
        text = file.read_text(encoding="utf-8")
        pairs = json.loads(text, object_pairs_hook=list)
    except OSError as error:
        remedy = "Write it, or correct `connector` in streams/sources.yaml."
        raise DeclarationError(file, 1, f"can't be read: {error.strerror}", remedy) from error
    except json.JSONDecodeError as error:
        raise DeclarationError(
            file, error.lineno, f"is not JSON: {error.msg}", "Mend the line."
        ) from error
    settings: dict[str, str] = {}
    for key, value in pairs:
        if key in settings or not isinstance(value, str):
            line = text[: max(0, text.rfind(f'"{key}"'))].count("\n") + 1
            what, remedy = (
                ("stands twice", "Keep one.") if key in settings else ("is no text", "Quote it.")
            )
            raise DeclarationError(file, line, f"`{key}` {what}", remedy)
        settings[key] = value
    return settings


@dataclass(frozen=True)
class Change:
    """A difference between what is declared and what is: `perform` makes it disappear."""

    kind: str
    name: str
    action: str
    detail: str
    perform: Callable[[], object] = field(repr=False)


@dataclass(frozen=True)
class Deployment:
    """
    The declarations of a checkout, and the environment of a stack (as `tongbu env` prints it).

    `declarations` is another folder with `mappings/`, `rules/` and `mirrors/`, to try a change. What the checkout has of
    them it must have, too: raise TongbuError for one that is needed and not there, as nothing would be declared.
    """

    environment: dict[str, str]
    namespace: str = ""
    declarations: Path | None = None

    @cached_property
    def catalog(self) -> Catalog:
        """The Avro schemas."""
        return Catalog.load()

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The sources, by name."""
        return load_sources()

    @cached_property
    def mappings(self) -> list[Declared[Mapping]]:
        """All mappings."""
        return load_mappings(self._folder("mappings"))

    @cached_property
    def rules(self) -> list[Declared[Rule]]:
        """All rules."""
        return load_rules(self._folder("rules"))

    @property
    def mirrors_folder(self) -> Path:
        """Where the declarations of mirrored tables are."""
        return self._folder("mirrors")

    @cached_property
    def mirrors(self) -> list[Declared[Mirror]]:
        """All mirrors."""
        return load_mirrors(self.mirrors_folder)

    @cached_property
    def bindings(self) -> list[Declared[Binding]]:
        """All bindings."""
        return load_bindings(BINDINGS)

    @cached_property
    def topic_defaults(self) -> dict[str, Any]:
        """connectors-config/topics.yaml."""
        loaded: dict[str, Any] = YAML(typ="safe").load(
            (CONNECTORS / "topics.yaml").read_text(encoding="utf-8")
        )
        return loaded

    @cached_property
    def registry(self) -> Registry:
        """The schema registry."""
        return Registry(self.environment["REGISTRY_URL"], patience=10)

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.environment["KAFKA_BOOTSTRAP"]

    @cached_property
    def admin(self) -> AdminClient:
        """Kafka's admin client; raise ServiceUnavailable where the broker does not answer."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            admin.list_topics(timeout=10)
        except KafkaException as error:
            raise ServiceUnavailable(
                f"Kafka at {self.bootstrap} does not answer: {error.args[0].str()}",
                "Is it up? `tongbu up`.",
            ) from error
        return admin

    def tables_of(self, source: str) -> list[str]:
        """Every table of a source that mappings read or that is mirrored: these are captured."""
        mappings = [each.value for each in self.mappings if each.value.source == source]
        mirrored = {table for mirror in self.mirrors_of(source) for table in mirror.tables}
        return sorted({table for mapping in mappings for table in mapping.tables} | mirrored)

    def mirrors_of(self, source: str) -> list[Mirror]:
        """The mirrors of a source."""
        return [each.value for each in self.mirrors if each.value.source == source]

    def lane_topic(self, source: str) -> str:
        """The lane log of a source, with the namespace."""
        return f"{self.namespace}cdc.{source}"

    def _folder(self, name: str) -> Path:
        shipped = _STREAMS / name
        folder = (self.declarations or _STREAMS) / name
        if shipped.is_dir() and not folder.is_dir():
            raise TongbuError(
                f"{self.declarations} has no {name}/: all that streams/{name}/ declares would go",
                f"Copy it: cp -r {shipped} {folder} (an empty folder declares nothing).",
            )
        return folder
