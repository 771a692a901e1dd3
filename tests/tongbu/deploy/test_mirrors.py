"""Declarations of mirrored tables: strict, and checked against sources and bindings."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from schemas.captured import Column, Table
from schemas.declarations import load_mirrors
from schemas.errors import DeclarationError, TongbuError
from tongbu import cli, mirror
from tongbu.deploy import lanes, mirrors
from tongbu.deploy.deployment import Deployment

GOOD = """
mirror: erp-to-warehouse
source: erp
binding: warehouse
tables:
  public.Customer: u8_Customer
"""


def declared(tmp_path, text):
    (tmp_path / "mirrors").mkdir()
    (tmp_path / "mirrors/one.yaml").write_text(text, encoding="utf-8")
    return Deployment({}, declarations=tmp_path)


def test_mirrored_tables_are_captured(tmp_path):
    (tmp_path / "mappings").mkdir()
    (tmp_path / "rules").mkdir()
    subject = declared(tmp_path, GOOD)
    mirrors.check(subject)

    assert subject.tables_of("erp") == ["public.Customer"]


def test_an_unknown_key_is_refused_with_its_line(tmp_path):
    with pytest.raises(DeclarationError, match=r"one.yaml:5.*unknown key `bindings`"):
        _ = declared(tmp_path, GOOD.replace("tables:", "bindings: x\ntables:")).mirrors


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("source: erp", "source: crm", r":3.*no source `crm`"),
        ("binding: warehouse", "binding: lake", r":4.*no relational binding `lake`"),
        ("binding: warehouse", "binding: order-events", r":4.*no relational binding"),
    ],
)
def test_what_is_not_there_is_named_with_its_line(tmp_path, old, new, said):
    with pytest.raises(DeclarationError, match=said):
        mirrors.check(declared(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    "other",
    [
        GOOD.replace("u8_Customer", "customer"),
        GOOD.replace("source: erp", "source: crm"),
        GOOD.replace("source: erp", "source: crm").replace("u8_Customer", "customer"),
    ],
)
def test_a_binding_has_a_table_once_for_it_knows_no_source_of_it(tmp_path, other):
    (tmp_path / "one.yaml").write_text(GOOD, encoding="utf-8")
    text = other.replace("mirror: erp", "mirror: crm")
    (tmp_path / "two.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(
        DeclarationError, match=r"two.yaml:6: public.Customer is mirrored"
    ) as refused:
        load_mirrors(tmp_path)
    assert refused.value.remedy


def test_two_tables_of_a_binding_can_not_have_one_name(tmp_path):
    text = GOOD + "  other.Customer: u8_Customer\n"
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"is the mirror of public.Customer already"):
        load_mirrors(tmp_path)


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ({"public.Person": ["idcard"]}, r"Person\.idcard: there is no such column\n.*IdCard"),
        ({"public.person": ["IdCard"]}, r"public\.person is none of the tables"),
    ],
)
def test_a_column_to_leave_out_that_is_not_there_is_refused_for_it_would_be_mirrored(
    tmp_path, monkeypatch, without, said
):
    column = Column(name="IdCard", type="text", nullable=True)
    person = Table(schema="public", name="Person", columns=(column,), key=("IdCard",))
    monkeypatch.setattr(mirrors.captured, "listed", lambda *_: ["public.Person"])
    monkeypatch.setattr(mirrors.captured, "examine", lambda *_: [person])
    subject = Deployment({"ERP_DSN": ""}, declarations=tmp_path)
    (tmp_path / "mirrors").mkdir()
    warehouse = next(each.value for each in subject.bindings if each.value.binding == "warehouse")

    with pytest.raises(TongbuError, match=said):
        mirrors.plan(subject, "erp", ["public.*"], warehouse, without=without)


GONE = {"public.Person": ["IdCard"]}


@pytest.mark.parametrize(
    ("before", "without", "narrowed", "refused"),
    [
        ([], GONE, GONE, []),
        (["IdCard"], GONE, {}, []),
        ([], {}, {}, []),
        ([], {"public.Person": ["Code"]}, {}, ["public.Person"]),
    ],
    ids=["asked for later", "left out already", "not asked for", "the key"],
)
def test_of_a_mirrored_table_a_column_can_be_left_out_later(
    tmp_path, monkeypatch, before, without, narrowed, refused
):
    columns = tuple(Column(name=each, type="text", nullable=True) for each in ("Code", "IdCard"))
    person = Table(schema="public", name="Person", columns=columns, key=("Code",))
    monkeypatch.setattr(mirrors.captured, "listed", lambda *_: ["public.Person"])
    monkeypatch.setattr(mirrors.captured, "examine", lambda *given: [person] * len(given[3]))
    monkeypatch.setattr(mirrors, "_unreadable", lambda *_: ())
    monkeypatch.setattr(mirrors.targets, "existing", lambda _: {"Person"})
    monkeypatch.setattr(mirrors.targets, "tables", lambda *_: [])
    (tmp_path / "mirrors").mkdir()
    declared = {
        "mirror": "erp-to-warehouse",
        "source": "erp",
        "binding": "warehouse",
        "tables": {"public.Person": "Person"},
        "without": {"public.Person": before} if before else {},
    }
    (tmp_path / "mirrors/erp-to-warehouse.yaml").write_text(json.dumps(declared))
    subject = Deployment({"ERP_DSN": ""}, declarations=tmp_path)
    warehouse = next(each.value for each in subject.bindings if each.value.binding == "warehouse")

    found = mirrors.plan(subject, "erp", ["public.*"], warehouse, without=without)
    assert (found.tables, found.known) == ({}, {"public.Person": "Person"})
    assert found.narrowed == narrowed
    assert [each.table for each in found.refused] == refused

    mirrors.write(subject, "erp", "warehouse", found, {})
    (after,) = load_mirrors(tmp_path / "mirrors")
    assert after.value.without.get("public.Person", []) == [
        *before,
        *narrowed.get("public.Person", []),
    ]


def test_plan_says_where_a_column_that_one_mirror_leaves_out_is_missing_in_another_target_too(
    tmp_path,
):
    for folder in ("mappings", "rules"):
        (tmp_path / folder).mkdir()
    left_out = "without:\n  public.Customer: [cMemo]\n"
    subject = declared(tmp_path, GOOD.replace("u8_Customer", "u8_Customer\n  public.Other: o"))
    other = GOOD.replace("erp-to-warehouse", "erp-to-oa").replace(": warehouse", ": oa") + left_out
    (tmp_path / "mirrors/two.yaml").write_text(other, encoding="utf-8")

    (customer, _) = lanes._mirrored(subject.mirrors_of("erp"))
    said = lanes._summary(subject, "erp")

    assert (set(customer.targets), customer.without) == ({"warehouse", "oa"}, ("cMemo",))
    assert said == (
        "0 mappings, 0 rules; public.Customer.cMemo is left out of warehouse, too, and dropped there, as oa is not to get it"
    )


def test_a_dry_run_says_which_other_targets_would_lack_a_column_that_is_left_out(
    tmp_path, monkeypatch
):
    subject = declared(tmp_path, GOOD)
    other = GOOD.replace("erp-to-warehouse", "erp-to-oa").replace(": warehouse", ": oa")
    (tmp_path / "mirrors/erp-to-oa.yaml").write_text(other, encoding="utf-8")
    before = {each.name: each.read_text() for each in (tmp_path / "mirrors").iterdir()}
    columns = {"public.Customer": ["cMemo"]}
    found = mirrors.Plan({}, {"public.Customer": "u8_Customer"}, [], columns)
    monkeypatch.setattr(mirror, "deployment", lambda *_: subject)
    monkeypatch.setattr(mirrors, "plan", lambda *_: found)
    asked = ["erp", "public.*", "--to", "oa", "--without", "public.Customer.cMemo", "--dry-run"]
    ran = CliRunner().invoke(cli.app, ["mirror", *asked], catch_exceptions=False)

    said = "public.Customer.cMemo is left out of warehouse, too, and dropped there, as oa is not to get it"
    assert said in " ".join(ran.output.split())
    assert {each.name: each.read_text() for each in (tmp_path / "mirrors").iterdir()} == before


def test_where_all_mirrors_of_a_table_leave_out_the_same_nothing_is_said(tmp_path):
    for folder in ("mappings", "rules"):
        (tmp_path / folder).mkdir()
    text = GOOD + "without:\n  public.Customer: [cMemo]\n"
    subject = declared(tmp_path, text)
    other = text.replace("erp-to-warehouse", "erp-to-oa").replace(": warehouse", ": oa")
    (tmp_path / "mirrors/two.yaml").write_text(other, encoding="utf-8")

    assert lanes._summary(subject, "erp") == "0 mappings, 0 rules"
