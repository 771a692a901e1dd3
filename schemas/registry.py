"""The schema registry, through its Confluent API. Producers never register: only `tongbu apply` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
import stamina

from schemas.errors import ServiceUnavailable, TongbuError

T = TypeVar("T")

_TIMEOUT_SECONDS = 5.0
_NOT_FOUND = 404
_CONFLICT = 409
_SERVER_ERROR = 500


class Registry:
    """Schemas by id and subject; trouble that passes is retried with backoff for `patience` seconds."""

    def __init__(self, url: str, patience: float = 30.0) -> None:
        # Imported here: it takes a third of a second, and a processor that starts again asks no registry.
        import httpx2  # what confluent-kafka speaks HTTP with
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        self.url = url
        self._patience = patience
        self._errors = (SchemaRegistryError, httpx2.HTTPError)
        self._schema = Schema
        self._client = SchemaRegistryClient(
            {"url": url, "timeout": _TIMEOUT_SECONDS, "max.retries": 0}
        )
        self._schemas: dict[int, dict[str, Any]] = {}

    def schema(self, schema_id: int) -> dict[str, Any]:
        """Give the schema of an id, asked for once; raise ServiceUnavailable or TongbuError."""
        known = self._schemas.get(schema_id)
        if known is None:
            found = self._call(lambda: self._client.get_schema(schema_id))
            known = self._schemas[schema_id] = orjson.loads(found.schema_str)
        return known

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Register a schema; give its id. Raise TongbuError where the registry finds it incompatible."""
        return int(self._call(lambda: self._client.register_schema(subject, self._avro(schema))))

    def lookup(self, subject: str, schema: dict[str, Any]) -> int | None:
        """Give the id that a schema has under a subject; None where it is not registered."""
        try:
            found = self._call(lambda: self._client.lookup_schema(subject, self._avro(schema)))
        except _NotFound:
            return None
        return int(found.schema_id)

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set what later versions of a subject must be; Apicurio checks nothing before it is set."""
        self._call(lambda: self._client.set_compatibility(subject_name=subject, level=level))

    def _call(self, call: Callable[[], T]) -> T:
        try:
            for attempt in stamina.retry_context(
                on=self._passing,
                attempts=None,
                timeout=self._patience,
                wait_initial=0.2,
                wait_max=3.0,
            ):
                with attempt:
                    return call()
        except self._errors as error:
            raise self._explain(error, getattr(error, "http_status_code", None)) from error
        raise AssertionError("a retry loop ends by returning or raising")

    def _passing(self, error: Exception) -> bool:
        """Tell trouble that may pass from an answer that will stay the same."""
        status = getattr(error, "http_status_code", _SERVER_ERROR)
        return isinstance(error, self._errors) and bool(status >= _SERVER_ERROR)

    def _avro(self, schema: dict[str, Any]) -> Any:
        return self._schema(orjson.dumps(schema).decode(), "AVRO")

    def _explain(self, error: Any, status: int | None) -> TongbuError:
        if status == _NOT_FOUND:
            return _NotFound(f"the schema registry does not know it: {error.error_message}")
        if status is not None and status < _SERVER_ERROR:
            remedy = "Keep the change compatible, or make it a new major version."
            return TongbuError(
                f"the schema registry refuses it: {error.error_message}",
                remedy if status == _CONFLICT else "",
            )
        return ServiceUnavailable(
            f"the schema registry at {self.url} does not answer ({type(error).__name__})",
            "Is it up? `tongbu status` tells.",
        )


class _NotFound(TongbuError):
    """The registry does not have it."""
