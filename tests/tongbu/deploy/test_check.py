"""Declarations that do not fit are refused with file, line and what to do, before anything is touched."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from demo_world import captured

from schemas.catalog import Catalog
from schemas.declarations import load_bindings, load_mappings, load_rules
from schemas.errors import DeclarationError, TongbuError
from sink_writers import targets
from tongbu.deploy import check

STREAMS = Path(str(files("streams")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(STREAMS / "mappings", tmp_path / "mappings")
    shutil.copytree(STREAMS / "rules", tmp_path / "rules")
    return tmp_path


def verify(folder: Path) -> None:
    catalog = Catalog.load()
    mappings, rules = load_mappings(folder / "mappings"), load_rules(folder / "rules")
    check.check_shapes(catalog, mappings, rules)
    for mapping in mappings:
        tables = {table.qualified: table for table in captured(mapping.value.source).tables}
        check.check_columns(tables, mapping, catalog.entities[mapping.value.entity], rules)


def edit(folder: Path, file: str, old: str, new: str) -> int:
    """Replace a text that stands in the file; give its line."""
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def test_the_shipped_declarations_are_fine(folder: Path) -> None:
    verify(folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mappings/u8/customer.yaml", "source: erp", "source: erpp"),
        ("rules/sales_order/approval_route.yaml", "source: erp", "source: erpp"),
        ("bindings/warehouse.yaml", "sources: [erp, oa]", "sources: [erpp, oa]"),
    ],
)
def test_a_source_that_there_is_not_is_refused_not_passed_over(
    folder: Path, file: str, old: str, new: str
) -> None:
    shutil.copytree(Path(str(files("sink_writers"))) / "bindings", folder / "bindings")
    line = edit(folder, file, old, new)

    with pytest.raises(DeclarationError, match=f"{file}:{line}: there is no source `erpp`"):
        check.check_sources(
            ["erp", "oa"],
            [*load_mappings(folder / "mappings"), *load_rules(folder / "rules")],
            load_bindings(folder / "bindings"),
        )


WEBHOOK = "bindings/order-events.yaml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("on: {status:", "on: {statuss:", "`statuss` is no text of sales_order"),
        ("on: {status:", "on: {line_count:", "`line_count` is no text of sales_order"),
        (
            "on: {status: [approved]}",
            "on: {status: [aproved]}",
            "`aproved` is no value of `status`",
        ),
        ("on: {status: [approved]}", "on: {status: []}", "`status` names no value"),
        ("  sales_order: {major: 1}", "  sales_orders: {major: 1}", "no entity `sales_orders` 1"),
        ("  sales_order: {major: 1}", "  sales_order: {major: 2}", "no entity `sales_order` 2"),
        (
            "  sales_order: {major: 1}",
            "  sales_order: {where: {status: [draft]}}",
            "`where` is for tables",
        ),
    ],
)
def test_a_webhook_that_would_never_fire_is_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    shutil.copytree(Path(str(files("sink_writers"))) / "bindings", folder / "bindings")
    check.check_effects(Catalog.load(), load_bindings(folder / "bindings"))
    line = edit(folder, WEBHOOK, old, new)

    with pytest.raises(DeclarationError, match=re.escape(f"{WEBHOOK}:{line}: ")) as refused:
        check.check_effects(Catalog.load(), load_bindings(folder / "bindings"))

    assert message in refused.value.message
    assert refused.value.remedy


def test_a_webhook_may_watch_any_value_of_a_text(folder: Path) -> None:
    shutil.copytree(Path(str(files("sink_writers"))) / "bindings", folder / "bindings")
    edit(folder, WEBHOOK, "on: {status: [approved]}", "on: {currency: [CNY], maker: [某某]}")

    check.check_effects(Catalog.load(), load_bindings(folder / "bindings"))


def test_a_reference_to_a_source_that_there_is_not_is_refused(folder: Path) -> None:
    line = edit(folder, APPROVAL, "source: erp}", "source: erpp}")

    with pytest.raises(DeclarationError, match=f"{APPROVAL}:{line}: there is no source `erpp`"):
        check.check_sources(["erp", "oa"], load_mappings(folder / "mappings"), [])


def test_one_row_of_a_part_is_no_array(folder: Path) -> None:
    edit(folder, ORDER, "order_by: iRowNo}", "order_by: iRowNo, one: true}")

    with pytest.raises(DeclarationError, match="the part `lines` is one row"):
        verify(folder)


ORDER, APPROVAL, RULE = (
    "mappings/u8/sales_order.yaml",
    "mappings/ecology/order_approval.yaml",
    "rules/sales_order/approval_route.yaml",
)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (ORDER, "  maker: cMaker", "  makr: cMaker", "no field that a mapping sets"),
        (ORDER, "  maker: cMaker", "  maker: cMakr", "has no column `cMakr`"),
        (ORDER, "  maker: cMaker", "  maker: client.cCusName", "there is no `client`"),
        (ORDER, "  maker: cMaker", "  maker: dDate", "can't become string"),
        (ORDER, "then: approved}", "then: aproved}", "`aproved` is no value of `status`"),
        (ORDER, "    default: draft", "    default: drafted", "`drafted` is no value of `status`"),
        (ORDER, "entity: sales_order", "entity: sales_orders", "there is no entity `sales_orders`"),
        (ORDER, "major: 1", "major: 2", "there is no entity `sales_order` 2"),
        (ORDER, "version: 1", "version: one", "valid integer"),
        (ORDER, "{人民币: CNY", "{01: CNY", "`01` would be read as 1"),
        (ORDER, "{人民币: CNY", "{1.10: CNY", "`1.10` would be read as 1.1"),
        (ORDER, "version: 1", "version: 0x1", "`0x1` would be read as 1"),
        (ORDER, "id: cSOCode", "id: cSOKode", "has no column `cSOKode`"),
        (
            ORDER,
            "where: {bReturnFlag: false}",
            "where: {bReturn: false}",
            "has no column `bReturn`",
        ),
        (ORDER, "join: {ID: ID}", "join: {ID: cSOCode}", "primary key of the root"),
        (ORDER, "      line_no: iRowNo", "      line_number: iRowNo", "no field of the array"),
        (ORDER, "source: erp", "sorce: erp", "unknown key `sorce`"),
        (
            APPROVAL,
            "{currentnodetype: 3}, then: approved",
            "{currentnodetype: 3}, then: archived",
            "no value of `status`",
        ),
        (RULE, "sets: [approval_route]", "sets: [route]", "`route` is no field"),
        (RULE, "finance_director}", "the_boss}", "no valid value for the case of doubt"),
        (RULE, "source: erp", "source: oa", "maps no sales_order"),
        (RULE, "{lookup: customer.", "{lookup: custmer.", "there is no lookup `custmer`"),
        (RULE, "cCusDefine1}", "cCusDefine}", "has no column `cCusDefine`"),
        (RULE, "gross.amount}", "line_count}", "`line_count` is int, and never a decimal"),
        (RULE, "{text: currency}", "{text: gross.amount}", "is decimal, and never a text"),
        (RULE, "{text: currency}", "{text: gross}", "is Money, and never a text"),
        (RULE, "otherwise: {", "otherwise: {route: x, ", "the rule does not set `route`"),
        (RULE, "gross.amount}", "gross.amnt}", "`gross.amnt` is no field of sales_order"),
        (ORDER, "{count: lines}", "{count: line}", "there is no part `line`"),
        (ORDER, "{sum: lines.net}", "{sum: lines.nett}", "is no field of a mapped array"),
        (ORDER, "    each: lines", "    each: line", "there is no part `line`"),
        (ORDER, "  note: cMemo", "  note: {const: true}", "`True` is no string"),
        (ORDER, "bReturnFlag: false}", "bReturnFlag: no}", "is boolean, and never `no`"),
        (ORDER, "order_by: iRowNo", "order_by: iRow", "has no column `iRow`"),
        (ORDER, "key: {cCusCode: cCusCode}", "key: {cCusCode: cCus}", "has no column `cCus`"),
        (ORDER, "key: {cCusCode: cCusCode}", "key: {cCusName: cCusCode}", "needs the primary key"),
        (
            ORDER,
            "key: {cCusCode: cCusCode}",
            "key: {cCusCode: root.cCusCode}",
            "there is no `root`",
        ),
        (
            ORDER,
            "key: {cCusCode: cCusCode}",
            "key: {cCusCode: customer.cCusCode}",
            "is no `customer`",
        ),
        (ORDER, "key: {cCusCode: cCusCode}", "key: {cCusCode: ID}", "and never equal"),
        (ORDER, "join: {ID: ID}", "join: {cInvCode: ID}", "and never equal"),
        (
            ORDER,
            "    fields:\n      line_no: iRowNo\n",
            "    fields:\n",
            "field `line_no` of `lines`",
        ),
        (ORDER, "currency: {const: CNY}}", "currency: {const: 5}}", "`5` is no string"),
        (ORDER, "then: true}]", "then: 1}]", "`1` is no boolean"),
        (ORDER, "{count: lines}", "{codes: {a: b}, of: cMaker}", "`b` is no int"),
        (ORDER, "  note: cMemo", "  note: {count: lines}", "`count` can't become string"),
        (ORDER, "{sum: lines.net}", "{sum: lines.line_no}", "is int, and its sum is to be Money"),
        (ORDER, "{reference: customer,", "{reference: custmer,", "there is no entity `custmer`"),
        (ORDER, "customer, to: cCusCode}", "customer, to: [ID, cCusCode]}", "is made of 1"),
        (ORDER, "{local_time: dDate}", "{local_time: []}", "names no column"),
        ("mappings/u8/receivable.yaml", "id: ", "id: [] #", "`id` names no column"),
        (ORDER, "where: {bReturnFlag: false}", "where: {iMoney: 0}", "and never `0`"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_line_and_remedy(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    line = edit(folder, file, old, new)

    with pytest.raises(DeclarationError, match=re.escape(message)) as refused:
        verify(folder)

    assert refused.value.file.endswith(file)
    assert refused.value.line == line
    assert refused.value.remedy


def test_a_required_field_that_nothing_sets_is_refused(folder: Path) -> None:
    edit(folder, "mappings/u8/customer.yaml", "  name: cCusName\n", "")

    with pytest.raises(DeclarationError, match="required field `name` is not mapped"):
        verify(folder)


def test_a_missing_decision_table_is_refused_by_name(folder: Path) -> None:
    (folder / "rules/sales_order/approval_route.json").unlink()

    with pytest.raises(DeclarationError, match=r"approval_route\.json is not there"):
        verify(folder)


def test_two_rules_that_set_one_field_are_refused_by_both_files_and_the_field(folder: Path) -> None:
    other = "rules/sales_order/second_route.yaml"
    shutil.copy(folder / RULE, folder / other)
    edit(folder, other, "rule: approval_route", "rule: second_route")
    line = edit(folder, other, "sets: [approval_route]", "sets: [approval_route]")

    with pytest.raises(DeclarationError, match=f"{other}:{line}: `approval_route`") as refused:
        verify(folder)

    assert RULE in refused.value.message
    assert refused.value.remedy


def test_rules_of_two_sources_may_set_one_field(folder: Path) -> None:
    first, *_ = load_rules(folder / "rules")
    second = replace(first, value=first.value.model_copy(update={"source": "oa"}))

    assert [*check._set_twice([first, replace(first)])]
    assert not [*check._set_twice([first, second])]


@pytest.fixture
def second_major(tmp_path: Path) -> Catalog:
    """The schemas, with a second major of one entity."""
    schemas = Path(str(files("schemas")))
    for part in ("entities", "common", "records"):
        shutil.copytree(schemas / part, tmp_path / "schemas" / part)
    first = tmp_path / "schemas/entities/sales_order/1.0.avsc"
    second = first.read_text("utf-8").replace(
        "canonical.sales_order.v1", "canonical.sales_order.v2"
    )
    first.with_name("2.0.avsc").write_text(second, "utf-8")
    return Catalog.load(tmp_path / "schemas")


def test_what_is_of_a_major_that_a_newer_one_has_succeeded_is_refused_with_the_reason(
    folder: Path, second_major: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", "postgresql://x@y/z")
    found = {
        each.value.binding: each for each in load_bindings(STREAMS.parent / "sink_writers/bindings")
    }
    asked = [
        lambda: check.check_shapes(second_major, load_mappings(folder / "mappings"), []),
        lambda: check.check_effects(second_major, [found["order-events"]]),
        lambda: targets.tables(found["warehouse"].value, second_major),
    ]
    for ask in asked:
        with pytest.raises(TongbuError, match=r"2\.0\.avsc") as refused:
            ask()
        assert "`major: 2`" in refused.value.remedy
