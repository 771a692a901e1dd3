"""What can't be captured without harm, or would mix two sources, is refused before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest

from schemas.declarations import Source, load_sources
from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.deploy import captured, topics


@pytest.fixture
def keyless(stack: dict[str, str]) -> Iterator[dict[str, str]]:
    """A table without primary key in each source."""
    oa = pymysql.connect(**captured.mysql_arguments(stack["OA_DSN"]))
    with psycopg.connect(stack["ERP_DSN"], autocommit=True) as erp, oa, oa.cursor() as cursor:
        erp.execute('CREATE TABLE "Keyless" ("cCode" text UNIQUE)')
        cursor.execute("CREATE TABLE keyless (code varchar(20) UNIQUE)")
        yield stack
        erp.execute('DROP TABLE "Keyless"')
        cursor.execute("DROP TABLE keyless")


@pytest.mark.parametrize(
    ("source", "table", "remedy"),
    [
        ("erp", "public.Keyless", 'ALTER TABLE "public"."Keyless" ADD PRIMARY KEY'),
        ("oa", "oa.keyless", "ALTER TABLE `oa`.`keyless` ADD PRIMARY KEY"),
    ],
)
def test_a_table_without_primary_key_is_refused_by_name_with_the_statement_that_mends_it(
    keyless: dict[str, str], source: str, table: str, remedy: str
) -> None:
    dsn = keyless[f"{source.upper()}_DSN"]

    with pytest.raises(TongbuError, match=f"`{table}` has no primary key") as refused:
        captured.read(source, load_sources()[source], dsn, [table])

    assert remedy in refused.value.remedy


@pytest.fixture
def erp(stack: dict[str, str]) -> Iterator[psycopg.Connection[Any]]:
    """The ERP, in which a test makes tables in a schema that goes afterwards."""
    with psycopg.connect(stack["ERP_DSN"], autocommit=True) as connection:
        connection.execute("CREATE SCHEMA identities")
        connection.execute("SET search_path = identities")
        yield connection
        connection.execute("DROP SCHEMA identities CASCADE")


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["ALTER TABLE t REPLICA IDENTITY NOTHING"], "its own UPDATEs would fail"),
        (
            ["ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE"],
            "its own UPDATEs",
        ),
        (["ALTER TABLE t REPLICA IDENTITY USING INDEX t_code"], "DELETEs don't tell which row"),
        (["ALTER TABLE p1 REPLICA IDENTITY NOTHING"], "its own UPDATEs would fail"),
    ],
)
def test_a_table_whose_log_does_not_tell_its_primary_key_is_refused_by_name(
    erp: psycopg.Connection[Any], stack: dict[str, str], statements: list[str], said: str
) -> None:
    erp.execute("CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL)")
    erp.execute("CREATE UNIQUE INDEX t_code ON t (code)")
    erp.execute("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    erp.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)")
    for statement in statements:
        erp.execute(statement)
    table = "identities.p" if "p1" in statements[0] else "identities.t"

    with pytest.raises(TongbuError, match=f"table `{table}` .*{said}") as refused:
        captured.read("erp", load_sources()["erp"], stack["ERP_DSN"], [table])

    assert "REPLICA IDENTITY DEFAULT" in refused.value.remedy


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_more",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ],
)
def test_columns_that_a_primary_key_only_includes_are_none_of_it(
    erp: psycopg.Connection[Any], stack: dict[str, str], statement: str
) -> None:
    erp.execute("CREATE TABLE t (id int, code text NOT NULL, PRIMARY KEY (id) INCLUDE (code))")
    erp.execute("CREATE UNIQUE INDEX t_more ON t (code, id)")
    erp.execute(statement)

    (table,) = captured.read(
        "erp", load_sources()["erp"], stack["ERP_DSN"], ["identities.t"]
    ).tables

    assert table.key == ("id",)


@pytest.mark.parametrize(("source", "table"), [("erp", "public.Nowhere"), ("oa", "oa.nowhere")])
def test_a_table_that_is_not_there_is_refused_by_name(
    stack: dict[str, str], source: str, table: str
) -> None:
    with pytest.raises(TongbuError, match=f"source {source}: there is no table `{table}`"):
        captured.read(source, load_sources()[source], stack[f"{source.upper()}_DSN"], [table])


@pytest.mark.parametrize(("source", "scheme"), [("erp", "postgresql"), ("oa", "mysql")])
def test_a_source_that_does_not_answer_is_named_without_its_password(
    source: str, scheme: str
) -> None:
    dsn = f"{scheme}://{source}:s3cret@127.0.0.1:1/{source}"

    with pytest.raises(ServiceUnavailable, match=f"source {source} does not answer") as unavailable:
        captured.read(source, load_sources()[source], dsn, ["x.y"])

    assert "s3cret" not in str(unavailable.value)


def with_sources(**sources: Source) -> Any:
    return SimpleNamespace(sources=sources)


def test_two_sources_on_one_partition_of_the_transactions_topic_are_refused_by_name() -> None:
    erp, oa = load_sources().values()
    moved = oa.model_copy(update={"partition": erp.partition})

    with pytest.raises(TongbuError, match="erp and oa share a partition") as refused:
        list(topics.plan(with_sources(erp=erp, oa=moved)))

    assert refused.value.remedy
