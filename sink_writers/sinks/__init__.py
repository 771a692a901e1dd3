"""One file per kind of sink, and the table of kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import Binding
from sink_writers.sink import Sink
from sink_writers.sinks.mariadb import MariadbDatabase, MysqlDatabase
from sink_writers.sinks.postgresql import PostgresqlDatabase
from sink_writers.sinks.relational import Database, RelationalSink
from sink_writers.sinks.webhook import WebhookSink


def _relational(database: Callable[[Any], Database]) -> Callable[[Any, Catalog, Decoder], Sink]:
    return lambda binding, *rest: RelationalSink(database(binding), binding, *rest)


#: A new kind: one file beside this one, and a row here.
KINDS: dict[str, Callable[[Any, Catalog, Decoder], Sink]] = {
    "postgresql": _relational(PostgresqlDatabase),
    "mariadb": _relational(MariadbDatabase),
    "mysql": _relational(MysqlDatabase),
    "webhook": WebhookSink,
}


def make_sink(binding: Binding, catalog: Catalog, decoder: Decoder) -> Sink:
    """Make the sink of a binding; it connects when it is first used."""
    return KINDS[binding.kind](binding, catalog, decoder)
