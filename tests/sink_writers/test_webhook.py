"""Effects: signed, on edges only, once each, retried with the same id."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from decimal import Decimal

import httpx
import orjson
import psycopg
import pytest

from schemas.declarations import WebhookBinding
from sink_writers import targets
from sink_writers.dialects.postgresql import Ledger
from sink_writers.receiver import Inbox
from sink_writers.sink import Fenced, Place, Position, TryLater
from sink_writers.sinks import webhook
from sink_writers.sinks.webhook import WebhookSink, edge

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
ON = {"status": ["approved"]}


def value(operation="update", changed=("status",), status="approved"):
    return {"meta": {"operation": operation, "changed": list(changed)}, "status": status}


@pytest.mark.parametrize(
    ("record", "fires"),
    [
        (value(), "approved"),
        (value("create", ()), "approved"),
        (value(changed=("code",)), None),
        (value(status="draft"), None),
        (value("snapshot"), None),
        (value("delete"), None),
    ],
)
def test_only_an_edge_fires(record, fires):
    assert edge(ON, record) == fires


class Endpoint:
    """A receiver that answers as told and remembers what it got."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response | Exception] = []
        self.got: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        answer = self.answers.pop(0) if self.answers else httpx.Response(204)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Effects:
    """A webhook binding on a real ledger, with its own name."""

    def __init__(self, world, dsn: str, name: str) -> None:
        self.world = world
        self.endpoint = Endpoint()
        self.place = Place(name, "canonical.transactions.v1", "topic-a", 0)
        self.binding = WebhookBinding(
            binding=name,
            kind="webhook",
            url="http://127.0.0.1:1/hook",
            secret=SECRET,
            ledger=dsn,
            sources=["erp"],
            entities={"sales_order": {}},
            on=ON,
        )
        targets.apply(self.binding, targets.plan(self.binding, world.catalog))
        self.sink = self.copy()
        self.at = self.sink.claim(self.place)

    def copy(self) -> WebhookSink:
        transport = httpx.MockTransport(self.endpoint)
        return WebhookSink(self.binding, self.world.catalog, self.world.decoder, transport)

    def apply(self, *messages) -> None:
        to = Position(self.at.next_offset + 1, 0, self.at.epoch)
        self.sink.apply(self.place, self.at, messages, to)
        self.at = to

    def age(self, time: str, *versions: int) -> None:
        """Let effects have happened a while ago."""
        with closing(Ledger(self.binding).connect()) as connection:
            connection.execute(
                "update tongbu_effect_ledger set last_at = now() - %s::interval "
                "where binding = %s and version = any(%s)",
                [time, self.place.binding, list(versions)],
            )

    def ledger(self):
        with closing(Ledger(self.binding).connect()) as connection:
            return connection.execute(
                "select entity_id, version, attempts, outcome, status from tongbu_effect_ledger "
                "where binding = %s order by version",
                [self.place.binding],
            ).fetchall()


@pytest.fixture
def effects(world, stack, request):
    made = Effects(world, stack["HUB_DSN"], request.node.name[:60])
    yield made
    made.sink.close()
    with psycopg.connect(stack["HUB_DSN"]) as connection:
        for table in ("tongbu_position", "tongbu_effect_ledger"):
            connection.execute(f"delete from {table} where binding = %s", [made.place.binding])


def approval(world, version: int, key: str = "o1"):
    return world.message(world.order(key, version, status="approved", changed=["status"]))


@pytest.mark.integration
def test_a_binding_gets_the_records_of_its_own_major_where_the_schemas_have_a_newer_one(
    effects, world
):
    newest = world.catalog.entities["sales_order"]
    newer = replace(newest, major=2, topic="canonical.sales_order.v2")
    catalog = replace(world.catalog, entities={**world.catalog.entities, "sales_order": newer})
    effects.sink = WebhookSink(
        effects.binding, catalog, world.decoder, httpx.MockTransport(effects.endpoint)
    )
    effects.at = effects.sink.claim(effects.place)

    effects.apply(approval(world, 7))

    assert [request.headers["webhook-id"] for request in effects.endpoint.got] == [
        "sales_order/o1/7"
    ]


@pytest.mark.integration
def test_an_edge_is_one_signed_call_that_the_receiver_keeps_once(effects, world, tmp_path):
    effects.apply(approval(world, 7), world.message(world.order("o2", 8, changed=["code"])))

    (request,) = effects.endpoint.got
    assert request.headers["webhook-id"] == request.headers["idempotency-key"] == "sales_order/o1/7"
    inbox = Inbox(tmp_path / "webhooks.jsonl", SECRET)
    assert inbox.take(dict(request.headers), request.content) == 202
    assert inbox.take(dict(request.headers), request.content) == 200
    assert inbox.take(dict(request.headers), request.content + b" ") == 401
    event = orjson.loads((tmp_path / "webhooks.jsonl").read_bytes())
    assert (event["type"], event["data"]["id"], event["data"]["version"]) == (
        "sales_order.approved",
        "o1",
        7,
    )
    assert event["data"]["gross"] == {"amount": "12.3456000000", "currency": "CNY"}
    assert effects.ledger() == [("o1", 7, 1, "delivered", 204)]


@pytest.mark.integration
def test_an_amount_has_no_exponent(effects, world):
    for version, (amount, spelled) in enumerate(
        {"0": "0.0000000000", "0.0000001": "0.0000001000", "-100": "-100.0000000000"}.items(), 1
    ):
        gross = {"amount": Decimal(amount), "currency": "CNY"}
        order = world.order("o1", version, status="approved", changed=["status"], gross=gross)
        effects.apply(world.message(order))
        body = orjson.loads(effects.endpoint.got[-1].content)
        assert body["data"]["gross"]["amount"] == spelled


@pytest.mark.integration
def test_a_snapshot_fires_nothing(effects, world):
    effects.apply(
        world.message(world.order("o1", 7, "snapshot", status="approved"), kind="republish")
    )

    assert effects.endpoint.got == []
    assert effects.ledger() == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (httpx.Response(503), None),
        (httpx.Response(429, headers={"retry-after": "7"}), 7.0),
        (httpx.ReadTimeout("too late"), None),
        (httpx.DecodingError("no gzip"), None),
        (httpx.Response(404), None),
        (httpx.Response(401), None),
        (httpx.Response(308, headers={"location": "https://127.0.0.1/hook"}), None),
    ],
)
def test_a_busy_endpoint_is_called_again_with_the_same_id(effects, world, answer, seconds):
    effects.endpoint.answers = [answer]
    message = approval(world, 7)

    with pytest.raises(TryLater) as waited:
        effects.apply(message)
    assert waited.value.seconds == seconds
    assert effects.ledger() == [("o1", 7, 1, None, None)]
    effects.apply(message)

    first, second = effects.endpoint.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.content == second.content
    assert effects.ledger() == [("o1", 7, 2, "delivered", 204)]


@pytest.mark.integration
def test_a_message_that_comes_twice_calls_once(effects, world):
    effects.apply(approval(world, 7))
    effects.apply(approval(world, 7))

    assert len(effects.endpoint.got) == 1


@pytest.mark.integration
def test_a_ledger_that_takes_no_writes_for_a_while_is_connected_to_anew(effects, world):
    effects.sink._connect().execute("set default_transaction_read_only = on")
    with pytest.raises(TryLater):
        effects.apply(approval(world, 7))
    effects.apply(approval(world, 7))

    assert len(effects.endpoint.got) == 1


@pytest.mark.integration
def test_an_event_that_the_endpoint_turns_away_may_be_given_up(effects, world):
    effects.endpoint.answers = [httpx.Response(403)]
    with pytest.raises(TryLater) as waited:
        effects.apply(approval(world, 7), approval(world, 8, "o2"))
    statement = waited.value.remedy.partition("this event: ")[2].rstrip(".")
    with closing(Ledger(effects.binding).connect()) as connection:
        connection.execute(statement)
    effects.apply(approval(world, 7), approval(world, 8, "o2"))

    assert effects.ledger() == [("o1", 7, 1, "skipped", None), ("o2", 8, 1, "delivered", 204)]


@pytest.mark.integration
def test_a_refusal_is_recorded_and_the_next_event_goes_out(effects, world):
    effects.endpoint.answers = [httpx.Response(422)]
    effects.apply(approval(world, 7), approval(world, 8, "o2"))

    assert effects.ledger() == [("o1", 7, 1, "failed", 422), ("o2", 8, 1, "delivered", 204)]


@pytest.mark.integration
def test_gone_disables_the_binding_until_a_person_enables_it(effects, world):
    effects.endpoint.answers = [httpx.Response(410)]
    effects.apply(approval(world, 7), approval(world, 8, "o2"))
    effects.sink = effects.copy()
    effects.at = effects.sink.claim(effects.place)
    effects.apply(approval(world, 9, "o3"))

    assert len(effects.endpoint.got) == 1
    assert [row[3] for row in effects.ledger()] == ["disabled", "disabled", "disabled"]


@pytest.mark.integration
def test_an_owner_that_was_replaced_does_not_call(effects, world):
    effects.copy().claim(effects.place)

    with pytest.raises(Fenced):
        effects.apply(approval(world, 7))
    assert effects.endpoint.got == []


@pytest.mark.integration
def test_old_effects_are_forgotten_but_what_is_unfinished_and_that_the_receiver_asked_to_stop(
    effects, world, monkeypatch
):
    effects.apply(approval(world, 1), approval(world, 2, "o2"))
    effects.endpoint.answers = [httpx.Response(422), httpx.Response(503)]
    with pytest.raises(TryLater):
        effects.apply(approval(world, 3, "o3"), approval(world, 4, "o4"))
    effects.age("41 days", 1, 3, 4)
    effects.age("29 days", 2)
    effects.sink.tend(effects.place, effects.at)
    assert [row[1] for row in effects.ledger()] == [1, 2, 3, 4]
    monkeypatch.setattr(webhook, "_SWEEP_EVERY_S", 0)
    effects.sink.tend(effects.place, effects.at)
    assert [row[1] for row in effects.ledger()] == [2, 4]

    effects.endpoint.answers = [httpx.Response(410)]
    effects.apply(approval(world, 3, "o3"), approval(world, 5), approval(world, 6))
    effects.age("42 days", 3, 5)
    effects.age("41 days", 6)
    effects.sink.tend(effects.place, effects.at)
    assert [(row[1], row[3]) for row in effects.ledger()] == [
        (2, "delivered"),
        (4, None),
        (6, "disabled"),
    ]


@pytest.mark.integration
def test_of_very_many_old_effects_some_are_forgotten_each_time_round(effects, world, monkeypatch):
    monkeypatch.setattr(webhook, "_FORGOTTEN_AT_ONCE", 2)
    monkeypatch.setattr(effects.sink, "_swept", -webhook._SWEEP_EVERY_S)
    effects.apply(*(approval(world, version, f"o{version}") for version in range(1, 6)))
    effects.age("31 days", 1, 2, 3, 4, 5)
    left = []
    for _ in range(3):
        effects.sink.tend(effects.place, effects.at)
        left.append(len(effects.ledger()))
    assert left == [3, 1, 0]
