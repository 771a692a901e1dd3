"""Declarations as people write them: what is wrong is refused with file, line and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.declarations import (
    load_bindings,
    load_mappings,
    load_rules,
    load_sources,
    mapping_from_bundle,
    rule_from_bundle,
    to_bundle,
)
from schemas.errors import DeclarationError

MAPPING = """\
mapping: u8.customer
version: 1
source: erp
entity: customer
major: 1
from: public.Customer
id: cCusCode
fields:
  code: cCusCode
  status:
    cases:
      - {when: {dEndDate: present}, then: inactive}
    default: active
"""
RULE = """\
rule: approval_route
version: 1
entity: sales_order
source: erp
table: approval_route.json
inputs:
  amount: {decimal: gross.amount}
sets: [approval_route]
otherwise: {approval_route: finance_director}
"""
BINDING = """\
binding: warehouse
kind: postgresql
dsn: ${WAREHOUSE_DSN}
sources: [erp]
entities:
  customer: {major: 1}
"""
SOURCES = """\
sources:
  erp: {system: u8, database: postgresql, partition: 0, zone: Asia/Shanghai, connector: erp.json}
"""
LOADERS: dict[str, Callable[[Path], Any]] = {
    MAPPING: lambda file: load_mappings(file.parent),
    RULE: lambda file: load_rules(file.parent),
    BINDING: lambda file: load_bindings(file.parent),
    SOURCES: load_sources,
}


def load(folder: Path, text: str, old: str = "", new: str = "") -> Any:
    """Load one of the texts above, with a piece replaced."""
    assert old in text
    file = folder / "declared.yaml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    (folder / "approval_route.json").write_text('{"nodes": []}')
    return LOADERS[text](file)


@pytest.mark.parametrize("text", LOADERS, ids=["mapping", "rule", "binding", "sources"])
def test_what_is_right_is_loaded(tmp_path: Path, text: str) -> None:
    assert len(load(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (MAPPING, "version: 1", "verson: 1", "2: unknown key `verson`"),
        (MAPPING, "dEndDate: present", "dEndDate: [[a]]", "12: "),
        (MAPPING, "    default", "    defualt", "13: unknown key `defualt`"),
        (MAPPING, "{when: {dEndDate: present}, then: inactive}", "{when: {}, than: a}", "12: "),
        (MAPPING, "  code: cCusCode", "  sum: {const: []}\n  code: {sums: 1}", "9: "),
        (MAPPING, "version: 1", "version: first", "2: `version`: Input should be a valid integer"),
        (MAPPING, "version: 1", "version: 0", "2: `version`: Input should be greater"),
        (MAPPING, "  code: cCusCode", "  code: {colum: a}", "9: "),
        (MAPPING, "  code: cCusCode", "  code: 5", "9: "),
        (MAPPING, "id: cCusCode\n", "", "1: the key `id` is missing"),
        (MAPPING, "major: 1", "major: 1\nmajor: 2", "6: is not YAML: found duplicate key"),
        (MAPPING, "fields:", "fields: [", "is not YAML"),
        (MAPPING, "  code: cCusCode", "\tcode: cCusCode", "9: is not YAML"),
        (
            MAPPING,
            "cCusCode\nfields",
            "cCus\x07Code\nfields",
            "7: is not YAML: it has a character U+0007",
        ),
        (MAPPING, MAPPING, "", "1: "),
        (MAPPING, MAPPING, "- a\n- b\n", "1: "),
        (RULE, "{decimal: gross.amount}", "{decimals: gross.amount}", "7: unknown key `decimals`"),
        (RULE, "inputs:\n  amount: {decimal: gross.amount}", "inputs: {}", "6: `inputs`"),
        (RULE, "sets: [approval_route]", "sets: approval_route", "8: `sets`"),
        (RULE, "approval_route.json", "other.json", "5: other.json is not there"),
        (BINDING, "kind: postgresql", "kind: oracle", "2: `kind`: Input tag 'oracle'"),
        (BINDING, "kind: postgresql\n", "", "1: the key `kind` is missing"),
        (BINDING, "{major: 1}", "{majr: 1}", "6: unknown key `majr`"),
        (BINDING, "sources: [erp]", "sources: []", "4: `sources`"),
        (SOURCES, "partition: 0", "partition: -1", "2: `partition`"),
        (SOURCES, "database: postgresql", "database: sqlite", "2: `database`"),
        (SOURCES, "Asia/Shanghai", "Asia/Shangai", "2: `zone`: there is no such time zone"),
        (SOURCES, "Asia/Shanghai", "+08:00", "2: `zone`: there is no such time zone"),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_remedy(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(DeclarationError) as refused:
        load(tmp_path, text, old, new)

    assert str(refused.value).startswith(f"{tmp_path / 'declared.yaml'}:")
    assert message in str(refused.value)
    assert refused.value.remedy


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_bytes(b"# \xd6\xd0\xce\xc4 in GBK\n" + SOURCES.encode())

    with pytest.raises(DeclarationError, match=r"sources\.yaml:1: is not UTF-8"):
        load_sources(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"sources\.yaml:1: is not there"):
        load_sources(tmp_path / "sources.yaml")


def test_what_is_there_and_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "approval_route.yaml").write_text(RULE)
    (tmp_path / "approval_route.json").mkdir()
    with pytest.raises(
        DeclarationError, match=r"route\.yaml:5: .*json can't be read: Is a directory"
    ):
        load_rules(tmp_path)

    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(DeclarationError, match=r"a\.yaml:1: can't be read: Is a directory"):
        load_rules(tmp_path)


@pytest.mark.parametrize("text", [MAPPING, RULE, BINDING], ids=["mapping", "rule", "binding"])
def test_a_declaration_whose_name_ends_otherwise_is_refused_not_left_out(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "other.yml").write_text(text)
    with pytest.raises(DeclarationError, match=r"other\.yml:1: is not read"):
        load(tmp_path, text)


def test_a_decision_table_that_is_not_json_is_refused_at_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text(RULE)
    (tmp_path / "approval_route.json").write_text('{\n"nodes": }')

    with pytest.raises(DeclarationError, match=r"approval_route\.json:2: is not JSON"):
        load_rules(tmp_path)


@pytest.mark.parametrize(
    ("other", "line", "name"),
    [
        (MAPPING.replace("entity: customer", "entity: product"), 1, "`u8.customer`"),
        (MAPPING.replace("u8.customer", "u8.client"), 4, "`erp/customer/1`"),
    ],
    ids=["the same name", "the same entity of the same source"],
)
def test_a_mapping_declared_twice_is_refused_with_both_places(
    tmp_path: Path, other: str, line: int, name: str
) -> None:
    (tmp_path / "a.yaml").write_text(MAPPING)
    (tmp_path / "b.yaml").write_text(other)

    with pytest.raises(DeclarationError) as refused:
        load_mappings(tmp_path)

    assert str(refused.value).startswith(f"{tmp_path / 'b.yaml'}:{line}: {name} is declared in")
    assert str(tmp_path / "a.yaml") in str(refused.value)
    assert refused.value.remedy


def test_declarations_come_back_from_a_lane_log_as_they_were(tmp_path: Path) -> None:
    (mapping,) = load(tmp_path, MAPPING)
    (tmp_path / "rules").mkdir()
    (rule,) = load(tmp_path / "rules", RULE)

    assert mapping_from_bundle(to_bundle(mapping)) == mapping.value
    assert rule_from_bundle(to_bundle(rule)) == rule.value
    assert rule.value.decision == {"nodes": []}
