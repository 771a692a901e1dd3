"""
Effects: one signed HTTP call per edge, after Standard Webhooks 1.0 (https://www.standardwebhooks.com).

There is no transaction with a receiver. So the id of a call is the id of the event that asked for it and
never changes, a ledger row is written before the call, and a call whose answer was lost is repeated with the
same id, which the receiver drops. Only that row waits for the disk: position and outcome may be lost with the
database's last moments, and are found again through it. Snapshots fire nothing.

Against what the log repeats the position is enough; the ledger also stands against a position that comes back to an
earlier place. So its finished rows are forgotten when the transactions topic has not had their records for long.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import psycopg
import structlog
from standardwebhooks import Webhook

from schemas.catalog import Catalog
from schemas.codec import Decoder
from schemas.declarations import WebhookBinding
from schemas.errors import TongbuError
from sink_writers.bindings import resolve
from sink_writers.dialects.postgresql import Ledger, explain, is_read_only
from sink_writers.messages import Message, Record
from sink_writers.position import check, claim, move
from sink_writers.sink import Place, Position, TryLater

_POSITION = "public.tongbu_position"
_TIMEOUT_S = 15.0
_GONE = 410
#: Answers that may be another one later, besides 5xx.
_BUSY = {408, 425, 429}
#: Answers about the endpoint or about us, besides redirects, and not about the event: none must be lost to them.
_ASTRAY = {401, 403, 404, 405, 407, 421, 426}

#: The topic keeps records for 7 days, and as long again where they stand in a segment with newer ones; twice that and more.
_LEDGER_DAYS = 30
_SWEEP_EVERY_S = 3600.0
#: So many at once, as the binding's calls wait meanwhile; the rest goes the next time round.
_FORGOTTEN_AT_ONCE = 10_000
#: Without an outcome a call is not finished; the newest that is `disabled` says that the receiver wants none.
_FORGET = f"""delete from tongbu_effect_ledger where binding = %s and id in (
    select id from tongbu_effect_ledger l
     where binding = %s and outcome is not null and last_at < now() - interval '{_LEDGER_DAYS} days'
       and (outcome <> 'disabled' or last_at < (select max(last_at) from tongbu_effect_ledger
                                                 where binding = l.binding and outcome = 'disabled'))
     limit %s)"""

log = structlog.get_logger("sink")


class WebhookSink:
    """Calls an endpoint; position and ledger live in the hub database. See the contract in sink.py."""

    due = False

    def __init__(
        self,
        binding: WebhookBinding,
        catalog: Catalog,  # noqa: ARG002 - the same shape as RelationalSink
        decoder: Decoder,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._binding = binding
        self._entities = {
            f"canonical.{name}.v{entity.major}": name for name, entity in binding.entities.items()
        }
        self._decoder = decoder
        self._url = resolve(binding.url)
        self._signer = Webhook(resolve(binding.secret))
        self._http = httpx.Client(timeout=_TIMEOUT_S, transport=transport)
        self._ledger = Ledger(binding)
        self._connection: psycopg.Connection[Any] | None = None
        self._disabled = False
        self._swept = time.monotonic()

    def claim(self, place: Place) -> Position:
        """Raise the epoch and read the position."""
        try:
            connection = self._connect()
            with connection.transaction():
                position = claim(connection.cursor(), _POSITION, place)
            self._disabled = _is_disabled(connection, place.binding)
        except psycopg.Error as error:
            raise explain(place.binding, error) from None
        return position

    def apply(
        self, place: Place, at: Position, messages: Sequence[Message], to: Position
    ) -> str | None:
        """Call for each edge in order, then move the position; what the ledger knows as done is not called again."""
        try:
            connection = self._connect()
            for message in messages:
                for record in message.records:
                    self._fire(connection, place, at, message, record)
            move(connection, _POSITION, place, at, to)
        except psycopg.Error as error:
            if is_read_only(error):
                connection.close()
            raise explain(place.binding, error) from None
        return None

    def tend(self, place: Place, at: Position) -> None:  # noqa: ARG002
        """Forget what was done long ago. Nothing waits: a call that did not succeed is repeated by `apply`."""
        if time.monotonic() - self._swept <= _SWEEP_EVERY_S:
            return
        most = _FORGOTTEN_AT_ONCE
        try:
            gone = self._connect().execute(_FORGET, [place.binding, place.binding, most]).rowcount
        except psycopg.Error as error:
            raise explain(place.binding, error) from None
        if gone < most:
            self._swept = time.monotonic()

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()
        if self._connection:
            self._connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = self._ledger.connect(options="-c synchronous_commit=off")
        return self._connection

    def _fire(
        self,
        connection: psycopg.Connection[Any],
        place: Place,
        at: Position,
        message: Message,
        record: Record,
    ) -> None:
        if record.topic not in self._entities or record.operation not in ("create", "update"):
            return
        entity = self._entities[record.topic]
        effect: dict[str, Any] = {
            "id": f"{entity}/{record.key}/{record.version}",
            "binding": place.binding,
            "entity": entity,
            "entity_id": record.key,
            "version": record.version,
        }
        value = self._decode(record)
        if value is None:
            if _begin(connection, place, at, effect):
                _finish(connection, effect, "undecodable", None)
            return
        reached = edge(self._binding.on, value)
        if reached is None:
            return
        effect["id"] = value["meta"]["event_id"]
        if begun := _begin(connection, place, at, effect):
            body = _body(f"{entity}.{reached}", value, message.committed_at or begun)
            outcome, status = (
                ("disabled", None) if self._disabled else self._call(effect["id"], body)
            )
            _finish(connection, effect, outcome, status)

    def _decode(self, record: Record) -> dict[str, Any] | None:
        try:
            return self._decoder.decode(record.value)
        except TongbuError:
            raise
        except Exception as error:
            # Whatever a damaged value makes the Avro reader raise, it is this record's trouble alone (I9).
            log.error("an event can't be decoded", id=record.key, reason=type(error).__name__)
            return None

    def _call(self, event_id: str, body: bytes) -> tuple[str, int | None]:
        """Give outcome and HTTP status; raise TryLater where the answer may be another one later."""
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(event_id, now, body.decode()),
            "idempotency-key": event_id,
        }
        try:
            answer = self._http.post(self._url, content=body, headers=headers)
        except httpx.RequestError as error:  # also of an answer that can't be read
            raise TryLater(
                f"{self._binding.binding}: the endpoint does not answer: {type(error).__name__}"
            ) from None
        if answer.status_code in _BUSY or answer.is_server_error:
            raise TryLater(
                f"{self._binding.binding}: the endpoint answers {answer.status_code}",
                seconds=_retry_after(answer),
            )
        if answer.status_code in _ASTRAY or answer.is_redirect:
            raise TryLater(
                f"{self._binding.binding}: the endpoint answers {answer.status_code}",
                "Compare the binding's url and secret with the receiver's; what they answer to is sent then. To give up "
                "this event: update tongbu_effect_ledger set outcome = 'skipped' "
                f"where binding = '{self._binding.binding}' and id = '{event_id}'.",
            )
        if answer.is_success:
            return "delivered", answer.status_code
        if answer.status_code == _GONE:
            self._disable()
            return "disabled", answer.status_code
        log.error(
            "the receiver refuses an event",
            binding=self._binding.binding,
            id=event_id,
            status=answer.status_code,
        )
        return "failed", answer.status_code

    def _disable(self) -> None:
        self._disabled = True
        log.error(
            "the receiver asked us to stop (410)",
            binding=self._binding.binding,
            remedy="When it wants calls again: update tongbu_effect_ledger set outcome = 'skipped' "
            "where outcome = 'disabled', and restart the sink.",
        )


def edge(on: dict[str, list[str]], value: dict[str, Any]) -> str | None:
    """Give the value that a watched field has just taken, or None; a record that is new takes all of its values."""
    meta = value["meta"]
    if meta["operation"] not in ("create", "update"):
        return None
    for name, wanted in on.items():
        taken = meta["operation"] == "create" or name in meta["changed"]
        if taken and value.get(name) in wanted:
            return str(value[name])
    return None


def _body(kind: str, value: dict[str, Any], at: datetime) -> bytes:
    """Give the payload; a repeated call has the same."""
    data = {name: field for name, field in value.items() if name != "meta"}
    data["version"] = value["meta"]["version"]
    event = {"type": kind, "timestamp": value["meta"]["occurred_at"] or at, "data": data}
    return orjson.dumps(event, default=_plain)


def _plain(value: Any) -> str:
    """Spell a number without an exponent: nothing would be 0E-10."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _begin(
    connection: psycopg.Connection[Any], place: Place, at: Position, effect: dict[str, Any]
) -> datetime | None:
    """Write the ledger row of an attempt while we are the owner; give the time of the first, None where it is done."""
    with connection.transaction():
        connection.execute("set local synchronous_commit = on")
        check(connection, _POSITION, place, at)
        row = connection.execute(
            """insert into tongbu_effect_ledger as l (id, binding, entity, entity_id, version, attempts)
               values (%(id)s, %(binding)s, %(entity)s, %(entity_id)s, %(version)s, 1)
               on conflict (binding, id) do update set attempts = l.attempts + 1, last_at = now()
               where l.outcome is null returning first_at""",
            effect,
        ).fetchone()
    return row[0] if row else None


def _finish(
    connection: psycopg.Connection[Any], effect: dict[str, Any], outcome: str, status: int | None
) -> None:
    connection.execute(
        "update tongbu_effect_ledger set outcome = %s, status = %s, last_at = now() "
        "where binding = %s and id = %s",
        [outcome, status, effect["binding"], effect["id"]],
    )


def _is_disabled(connection: psycopg.Connection[Any], binding: str) -> bool:
    found = connection.execute(
        "select 1 from tongbu_effect_ledger where binding = %s and outcome = 'disabled' limit 1",
        [binding],
    )
    return found.fetchone() is not None


def _retry_after(answer: httpx.Response) -> float | None:
    """Read Retry-After: seconds or a date."""
    said = answer.headers.get("retry-after", "")
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
