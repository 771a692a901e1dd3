"""The types of mirrored columns: the same in one family of databases, the closest exact one in the other."""

from __future__ import annotations

import pytest

from sink_writers.mirror_types import target_type


@pytest.mark.parametrize(
    ("database", "kind", "of", "to"),
    [
        ("postgresql", "postgresql", "numeric(12,2)", "numeric(12,2)"),
        ("postgresql", "postgresql", "enum[]", "text[]"),
        ("mariadb", "mysql", "int(8) unsigned zerofill", "int(8) unsigned zerofill"),
        ("mysql", "mariadb", "json", "longtext"),
        ("mariadb", "postgresql", "tinyint(3) unsigned", "smallint"),
        ("mariadb", "postgresql", "smallint(5) unsigned", "integer"),
        ("mariadb", "postgresql", "int(11)", "integer"),
        ("mariadb", "postgresql", "int(10) unsigned", "bigint"),
        ("mysql", "postgresql", "bigint(20) unsigned", "numeric(20,0)"),
        ("mysql", "postgresql", "decimal(10,2) unsigned", "numeric(10,2)"),
        ("mysql", "postgresql", "datetime(6)", "timestamp without time zone"),
        ("mysql", "postgresql", "timestamp", "timestamp with time zone"),
        ("mysql", "postgresql", "time(3)", "interval"),
        ("mysql", "postgresql", "varbinary(5)", "bytea"),
        ("mysql", "postgresql", "enum('a','b')", "text"),
        ("postgresql", "mariadb", "numeric(38,10)", "decimal(38,10)"),
        ("postgresql", "mariadb", "numeric(70,2)", "longtext"),
        ("postgresql", "mariadb", "numeric", "longtext"),
        ("postgresql", "mariadb", "character varying(20)", "varchar(20)"),
        ("postgresql", "mariadb", "character varying(9000)", "longtext"),
        ("postgresql", "mysql", "timestamp(3) with time zone", "datetime(6)"),
        ("postgresql", "mysql", "time(3) without time zone", "time(3)"),
        ("postgresql", "mysql", "integer[]", "longtext"),
        ("mariadb", "mariadb", "enum", "text"),
    ],
)
def test_a_type_has_one_that_holds_all_its_values(database, kind, of, to):
    assert target_type(database, kind, of, in_key=False) == to


def test_a_text_in_a_key_has_a_length_in_mariadb():
    assert target_type("postgresql", "mariadb", "text", in_key=True) == "varchar(255)"
