"""The data dictionary."""

from __future__ import annotations

from pathlib import Path

from schemas import dictionary
from schemas.catalog import Catalog

CATALOG = Catalog.load()
TEXT = dictionary.render(CATALOG)


def test_every_field_of_every_entity_is_in_it_with_its_label() -> None:
    for entity in CATALOG.entities.values():
        head = f"## {entity.name} {entity.schema['label_zh']}\n"
        section = TEXT[TEXT.index(head) :].split("\n## ", 1)[0]
        for field in entity.schema["fields"]:
            assert f"| `{field['name']}` | " in section
            assert f" | {field['label_zh']} | " in section


def test_fields_of_lines_stand_below_their_array() -> None:
    assert "| `lines[].line_no` | int | 行号 | Line number. |" in TEXT


def test_shared_types_are_told_once_and_linked() -> None:
    assert TEXT.count("\n## Money\n") == 1
    assert "| `gross` | [Money](#money), null |" in TEXT
    assert "| `amount` | decimal(38, 10) |" in TEXT


def test_texts_with_marks_of_markdown_stay_readable() -> None:
    assert "Canonical id: &lt;source>:&lt;natural key>." in TEXT


def test_a_stale_dictionary_is_found_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "dictionary.md"
    file.write_text(TEXT.replace("行号", "行"), encoding="utf-8")

    (finding,) = dictionary.check(CATALOG, file)

    assert str(finding).startswith(f"{file}:1: ")
    assert "python -m schemas dictionary" in finding.remedy


def test_a_fresh_dictionary_is_fine_and_a_missing_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "dictionary.md"
    assert dictionary.check(CATALOG, file)

    file.write_text(TEXT, encoding="utf-8")

    assert dictionary.check(CATALOG, file) == []
