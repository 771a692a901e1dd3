"""One file per kind of sink, and the table of kinds."""

from __future__ import annotations

from typing import Any

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import Binding
from sink_writers.sink import Sink
from sink_writers.sinks.mariadb import MariadbSink
from sink_writers.sinks.postgresql import PostgresqlSink
from sink_writers.sinks.webhook import WebhookSink

#: A new kind: one file beside this one, and a row here.
KINDS: dict[str, Any] = {
    "postgresql": PostgresqlSink,
    "mariadb": MariadbSink,
    "webhook": WebhookSink,
}


def make_sink(binding: Binding, catalog: Catalog, decoder: Decoder) -> Sink:
    """Make the sink of a binding; it connects when it is first used."""
    sink: Sink = KINDS[binding.kind](binding, catalog, decoder)
    return sink
