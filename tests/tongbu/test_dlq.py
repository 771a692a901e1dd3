"""`tongbu dlq` asks for what it is told, and says what it needs."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from schemas import control
from schemas.errors import TongbuError
from streams.seal import KEY_FILE, new_key
from tongbu import dlq

LETTERS = [
    {
        "id": f"cdc.{source}/0/{number}/{entity}/{source}:{number}",
        "source": source,
        "entity": entity,
        "entity_id": f"{source}:{number}",
        "stage": "map",
        "code": "conversion",
        "at": 1_700_000_000_000_000,
        "sealed": b"secret",
    }
    for number, (source, entity) in enumerate(
        [("erp", "order"), ("erp", "customer"), ("oa", "order"), ("erp", "order")]
    )
]


@pytest.fixture
def appended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    records: list[Any] = []
    catalog = SimpleNamespace(entities={"order": None, "customer": None, "product": None})
    subject = SimpleNamespace(bootstrap="", registry=None, environment={}, catalog=catalog)
    monkeypatch.setattr(dlq, "deployment", lambda instance: subject)
    monkeypatch.setattr(dlq.dead_letters, "read", lambda *_, **__: LETTERS)
    monkeypatch.setattr(dlq.lanes, "append", lambda subject, *some: records.extend(some))
    return records


def run(*arguments: str) -> Any:
    return CliRunner().invoke(dlq.app, arguments, catch_exceptions=False)


def test_a_retry_of_an_entity_is_one_record_per_source_with_all_its_withheld_ids(
    appended: list[Any],
) -> None:
    assert run("retry", "--entity", "order").exit_code == 0
    assert appended == [
        control.Retry(source="erp", entity="order", ids=("erp:0", "erp:3")),
        control.Retry(source="oa", entity="order", ids=("oa:2",)),
    ]


def test_a_skip_of_one_id_asks_for_that_id_alone(appended: list[Any]) -> None:
    run("skip", "erp:1")
    assert appended == [control.Skip(source="erp", entity="customer", ids=("erp:1",))]


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "--entity", "ordr"),
        ("skip", "erp:99"),
        ("show", "nothing"),
        ("list", "--entity", "ordr"),
    ],
)
def test_what_is_not_there_or_not_said_is_refused_with_a_remedy(
    appended: list[Any], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(TongbuError) as raised:
        run(*arguments)
    assert raised.value.remedy
    assert appended == []


def test_a_list_for_programs_and_a_letter_hold_no_original(appended: list[Any]) -> None:
    for answer in (run("list", "--json"), run("show", "erp:1"), run("list")):
        assert answer.exit_code == 0
        assert "erp:1" in answer.output
        assert "secret" not in answer.output


def test_a_list_has_ids_as_they_are_also_with_brackets(
    appended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [LETTERS[0] | {"entity_id": "erp:螺丝[bold]"}]
    monkeypatch.setattr(dlq.dead_letters, "read", lambda *_, **__: letters)

    assert "erp:螺丝[bold]" in run("list").output


def test_an_entity_without_letters_is_no_mistake(appended: list[Any]) -> None:
    assert "no open letters" in run("list", "--entity", "product").output


def test_a_hundred_thousand_letters_are_asked_for_by_records_that_kafka_takes(
    appended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"erp:public.Stock[{number}]".ljust(300, "0") for number in range(100_000)]
    many = [LETTERS[0] | {"id": id_, "entity_id": id_} for id_ in ids]
    monkeypatch.setattr(dlq.dead_letters, "read", lambda *_, **__: many)

    answer = run("skip", "--all")

    assert "100,000 asked for" in answer.output
    assert [id_ for record in appended for id_ in record.ids] == ids
    assert max(len(control.encode(each)[1]) for each in appended) < 1_000_000


def test_ten_thousand_ids_of_a_hundred_thousand_letters_are_found_at_once(
    appended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [LETTERS[0] | {"entity_id": f"erp:{number}"} for number in range(100_000)]
    monkeypatch.setattr(dlq.dead_letters, "read", lambda *_, **__: many)
    began = time.process_time()

    run("retry", *(f"erp:{number}" for number in range(90_000, 100_000)))

    assert time.process_time() - began < 3
    assert sum(len(each.ids) for each in appended) == 10_000


def test_of_a_letter_that_was_sealed_with_another_key_the_reason_is_told(
    appended: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / KEY_FILE).write_bytes(new_key())
    subject = dlq.deployment("")
    subject.environment["TONGBU_DATA"] = str(tmp_path)

    with pytest.raises(TongbuError, match="another key") as raised:
        run("show", "erp:1", "--unseal")

    assert str(tmp_path / KEY_FILE) in raised.value.remedy
