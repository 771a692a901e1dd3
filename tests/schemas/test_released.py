"""`python -m schemas check|release`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from schemas import released
from schemas.errors import DeclarationError

ORDER = {
    "type": "record",
    "name": "Order",
    "doc": "An order.",
    "fields": [
        {"name": "meta", "type": "string", "doc": "Stands for the shared type."},
        {"name": "id", "type": "string", "doc": "The id."},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "1.0", ORDER)
    return tmp_path


def write(folder: Path, version: str, schema: dict[str, object]) -> Path:
    file = folder / f"entities/order/{version}.avsc"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(schema))
    return file


def with_field(**field: object) -> dict[str, object]:
    return {**ORDER, "fields": [*ORDER["fields"], field]}  # type: ignore[misc]


def test_releasing_twice_releases_nothing_new(folder: Path) -> None:
    assert released.release(folder) == ["entities/order/1.0.avsc"]
    assert released.release(folder) == []


def test_a_schema_that_is_not_released_may_change(folder: Path) -> None:
    write(folder, "1.0", with_field(name="code", type="string", doc="The code."))

    assert released.check(folder) == []


def test_a_changed_released_file_is_refused(folder: Path) -> None:
    released.release(folder)
    file = write(folder, "1.0", {**ORDER, "doc": "Another."})

    (error,) = released.check(folder)

    assert str(error).startswith(f"{file}:1: is released and was changed")
    with pytest.raises(DeclarationError, match="was changed"):
        released.release(folder)


def test_a_released_file_that_is_gone_is_refused(folder: Path) -> None:
    released.release(folder)
    write(folder, "1.1", ORDER)
    (folder / "entities/order/1.0.avsc").unlink()

    assert "must stay" in str(released.check(folder)[0])


def test_a_released_shared_type_is_refused_too_as_it_is_part_of_every_record(folder: Path) -> None:
    file = folder / "common/money.avsc"
    file.parent.mkdir()
    money = {**ORDER, "name": "Money", "namespace": "canonical.common"}
    file.write_bytes(orjson.dumps(money))
    released.release(folder)
    file.write_bytes(orjson.dumps({**money, "doc": "Another."}))

    (error,) = released.check(folder)

    assert str(error).startswith(f"{file}:1: is released and was changed")
    assert "a new type" in error.remedy


def test_every_shipped_schema_is_released() -> None:
    shipped = Path(released.__file__).parent
    names = {file.relative_to(shipped).as_posix() for file in shipped.rglob("*.avsc")}

    known = orjson.loads((shipped / "released.json").read_bytes()).keys()
    assert known == names, "make the new ones public: python -m schemas release"


def test_an_incompatible_minor_is_refused(folder: Path) -> None:
    file = write(folder, "1.1", with_field(name="code", type="string", doc="The code."))

    errors = released.check(folder)

    assert errors
    assert all(str(error).startswith(f"{file}:1: against 1.0") for error in errors)


def test_another_major_may_be_anything(folder: Path) -> None:
    write(folder, "2.0", with_field(name="code", type="string", doc="The code."))

    assert released.check(folder) == []


def test_a_field_without_doc_is_refused(folder: Path) -> None:
    write(folder, "1.0", with_field(name="code", type="string"))

    assert "`code` has no doc" in str(released.check(folder)[0])


def test_what_is_in_the_repository_may_be_published() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "schemas", "check"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"type": "double"}, "can't be written: no compiled encoder for double"),
        ({"type": ["null", "string", "int"]}, "can't be written: a union"),
        ({"type": "strin"}, "is no Avro record: UnknownType: strin"),
        ({}, "is no Avro record: SchemaParseException"),
    ],
)
def test_a_schema_that_no_record_can_be_written_with_is_refused(
    folder: Path, field: dict[str, object], said: str
) -> None:
    file = write(folder, "1.0", with_field(name="weight", doc="In kg.", **field))

    (error,) = released.check(folder)

    assert str(error).startswith(f"{file}:1: {said}")
    assert error.remedy


def test_an_entity_without_what_every_record_has_is_refused(folder: Path) -> None:
    file = write(folder, "1.0", {**ORDER, "fields": ORDER["fields"][:1]})  # type: ignore[index]

    (error,) = released.check(folder)

    assert str(error).startswith(f"{file}:1: has no field `id`")
