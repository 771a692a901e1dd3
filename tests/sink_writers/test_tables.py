"""What tables a binding makes of the Avro schemas."""

from __future__ import annotations

import pytest

from schemas.catalog import Catalog
from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers.binding_tables import tables
from sink_writers.dialects import mariadb, postgresql
from sink_writers.tables import Unfit


def make(world, sql_type=postgresql.sql_type, **entity):
    spec = {
        "binding": "b",
        "kind": "postgresql",
        "dsn": "",
        "sources": ["erp"],
        "entities": {"sales_order": entity},
    }
    return tables(RelationalBinding.model_validate(spec), world.catalog, sql_type)


def test_nested_records_become_columns_and_meta_leaves_its_version(world):
    root, child = make(world, children={"lines": {"table": "line", "key": "line_no"}})

    assert {column.name: column.sql_type for column in root.columns} == {
        "id": "text",
        "code": "text",
        "customer_id": "text",
        "status": "text",
        "gross_amount": "numeric(38,10)",
        "gross_currency": "text",
        "seen_at": "timestamp with time zone",
        "closed": "boolean",
        "ext": "jsonb",
        "version": "bigint",
    }
    assert root.key == ("id",)
    assert [column.name for column in child.columns] == [
        "sales_order_id",
        "line_no",
        "product_id",
        "net_amount",
        "net_currency",
    ]
    assert (child.key, child.parent, child.array) == (
        ("sales_order_id", "line_no"),
        "sales_order",
        "lines",
    )


def test_mariadb_can_index_ids_and_references(world):
    root, child = make(
        world, mariadb.sql_type, children={"lines": {"table": "line", "key": "line_no"}}
    )
    types = {column.name: column.sql_type for column in (*root.columns, *child.columns)}

    assert types["id"] == types["customer_id"] == types["sales_order_id"] == "varchar(255)"
    assert (types["code"], types["seen_at"], types["ext"]) == ("text", "datetime(6)", "longtext")


def test_fields_keep_only_what_is_listed(world):
    (root,) = make(world, fields=["gross", "code"], table="orders")

    assert root.name == "orders"
    assert [column.name for column in root.columns] == [
        "id",
        "code",
        "gross_amount",
        "gross_currency",
        "version",
    ]


def test_an_array_that_is_no_child_is_a_json_column(world):
    (root,) = make(world, fields=["lines"])

    assert root.columns[1][:3] == ("lines", ("lines",), "jsonb")


@pytest.mark.parametrize(
    ("entity", "said"),
    [
        ({"fields": ["colour"]}, "sales_order has no field colour"),
        ({"children": {"ext": {"table": "t", "key": "k"}}}, "no array of records `ext`"),
        ({"children": {"lines": {"table": "t", "key": "sku"}}}, "no field lines.sku"),
        ({"major": 2}, "there is no entity `sales_order` 2"),
    ],
)
def test_what_the_schemas_do_not_have_is_refused(world, entity, said):
    with pytest.raises(TongbuError, match=said):
        make(world, **entity)


def test_every_shipped_binding_fits_the_shipped_schemas(monkeypatch):
    for name in ("WAREHOUSE_DSN", "HUB_DSN"):
        monkeypatch.setenv(name, "postgresql://u:p@127.0.0.1:1/d")
    monkeypatch.setenv("OA_HUB_DSN", "mysql://u:p@127.0.0.1:1/d")
    from sink_writers import targets
    from sink_writers.bindings import FOLDER, load

    catalog = Catalog.load()
    names = {
        table.name
        for file in FOLDER.glob("*.yaml")
        for table in targets.tables(load(file.stem), catalog)
    }
    assert {"sales_order", "sales_order_line", "customer"} <= names


@pytest.mark.parametrize(
    ("entity", "said", "path"),
    [
        ({"columns": {"code": None}}, "only of `version`", ("columns", "code")),
        ({"columns": {"kode": "x"}}, "no column kode", ("columns", "kode")),
        ({"columns": {"code": "status"}}, "2 columns that are called status", ("columns",)),
        ({"columns": {"id": "code"}}, "2 columns that are called code", ("columns",)),
        (
            {"references": {"customer_id": "customer"}},
            "does not have",
            ("references", "customer_id"),
        ),
        (
            {"children": {"lines": {"table": "l", "key": "no"}}},
            "no field lines.no",
            ("children", "lines", "key"),
        ),
        (
            {"children": {"lines": {"table": "sales_order", "key": "line_no"}}},
            "sales_order and sales_order.lines have one table, sales_order",
            (),
        ),
    ],
)
def test_what_can_not_be_is_refused_with_its_place_in_the_file(world, entity, said, path):
    with pytest.raises(Unfit, match=said) as refused:
        make(world, **entity)

    assert refused.value.path == ("entities", "sales_order", *path)


def test_id_and_version_may_be_called_otherwise_or_the_version_stand_elsewhere(world):
    lines = {"table": "line", "key": "line_no", "columns": {"sales_order_id": "nr"}}
    root, child = make(
        world, columns={"id": "order_nr", "version": "rev"}, children={"lines": lines}
    )
    assert (root.key, root.columns[0].name, root.version) == (("order_nr",), "order_nr", "rev")
    assert (child.key, child.parent_id) == (("nr", "line_no"), "order_nr")

    (root,) = make(world, columns={"version": None})
    assert "version" not in {column.name for column in root.columns}
    assert not root.keeps_version
