"""Replays for bindings of every kind, without the services that a whole one needs."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
from rich.console import Console

from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from tongbu import commands, replay_targets, topics
from tongbu.deploy.captured import mysql_arguments
from tongbu.instance import Instance
from tongbu.progress import Steps
from tongbu.replay import Replay

KINDS = ("postgresql", "mariadb", "mysql")


def binding(kind: str = "postgresql", reads: str = "transactions") -> RelationalBinding:
    return RelationalBinding.model_validate(
        {
            "binding": "shop",
            "kind": kind,
            "dsn": "${SHOP_DSN}",
            "sources": ["erp"],
            "entities": {"customer": {"major": 1}, "product": {"major": 2}},
            "reads": reads,
        }
    )


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ("transactions", [("sink-shop", "canonical.transactions.v1")]),
        (
            "entities",
            [
                ("sink-shop-customer", "canonical.customer.v1"),
                ("sink-shop-product", "canonical.product.v2"),
            ],
        ),
    ],
)
def test_a_replay_waits_for_what_each_sink_writer_reads(
    reads: str,
    expected: list[tuple[str, str]],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []

    def backlog(_: str, group: str, names: list[str]) -> int:
        asked.append((group, names[0]))
        return 0

    monkeypatch.setattr(topics, "ends", lambda _, names: dict.fromkeys(names, 3))
    monkeypatch.setattr(topics, "backlog", backlog)
    environment = {"TONGBU_DATA": str(tmp_path), "KAFKA_BOOTSTRAP": "none"}
    replay = Replay(environment, [binding(reads=reads)], keep=False)

    with Steps(Console(file=io.StringIO())) as steps:
        replay._wait({}, steps)

    live = [(each.removeprefix(replay.namespace), name) for each, name in asked[1:]]
    assert [(group, name.removeprefix(replay.namespace)) for group, name in live] == expected
    assert all(each.startswith(replay.namespace) for pair in asked for each in pair)


def test_who_may_create_databases_is_known_for_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    local = {f"{each.replace('postgresql', 'postgres')}_admin_dsn": each.upper for each in KINDS}
    monkeypatch.setattr(Instance, "load", lambda _: SimpleNamespace(**local))
    for name in replay_targets.ADMINS.values():
        monkeypatch.delenv(name, raising=False)
    assert set(commands._admins("default")) == set(KINDS)

    for kind, name in replay_targets.ADMINS.items():
        monkeypatch.setenv(name, kind)
    assert commands._admins("default") == {kind: kind for kind in KINDS}


def test_a_server_whose_administrator_is_not_known_is_named_with_the_variable_to_set() -> None:
    live = {"SHOP_DSN": "mysql://shop@none/shop"}
    with (
        pytest.raises(TongbuError, match=r"binding shop: .* mysql database") as refused,
        replay_targets.databases([binding("mysql")], live, {}, "x", keep=False),
    ):
        pass
    assert "MYSQL_ADMIN_DSN" in refused.value.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_of_the_replay_belongs_to_the_user_of_the_live_one_and_goes_with_it(
    kind: str, stack_instance: Instance, stack: dict[str, str], request: pytest.FixtureRequest
) -> None:
    live = {"postgresql": "WAREHOUSE_DSN", "mariadb": "OA_HUB_DSN"}.get(kind, "")
    dsn = stack[live] if live else request.getfixturevalue("mysql_dsn")
    admins = {
        "postgresql": stack_instance.postgres_admin_dsn(),
        "mariadb": stack_instance.mariadb_admin_dsn(),
        "mysql": stack_instance.mysql_admin_dsn(),
    }

    with replay_targets.databases(
        [binding(kind)], {"SHOP_DSN": dsn}, admins, "x", keep=False
    ) as variables:
        assert variables["SHOP_DSN"].endswith("/replay_x_shop")
        written(kind, variables["SHOP_DSN"])

    with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)):
        written(kind, variables["SHOP_DSN"])


def written(kind: str, dsn: str) -> None:
    if kind == "postgresql":
        with psycopg.connect(dsn) as connection:
            connection.execute("create table t (id int)")
    else:
        with pymysql.connect(**mysql_arguments(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("create table t (id int)")
