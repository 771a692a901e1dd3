"""The demo world is the same everywhere, and its codes are valid."""

from __future__ import annotations

from pathlib import Path

import orjson

from tongbu.world.journal import Journal, Step
from tongbu.world.seed import CUSTOMERS, customer_name, uscc

#: GB 32100-2015, table of character values and weights, written out.
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
WEIGHTS = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28]


def test_every_social_credit_code_has_a_valid_check_digit() -> None:
    for number in range(1, CUSTOMERS + 1):
        code = uscc(number)
        total = sum(
            ALPHABET.index(char) * weight for char, weight in zip(code, WEIGHTS, strict=False)
        )
        assert len(code) == 18
        assert ALPHABET[(31 - total % 31) % 31] == code[17]


def test_the_standards_own_example_has_the_check_digit_that_we_compute() -> None:
    body = "91350100M000100Y4"
    total = sum(ALPHABET.index(char) * weight for char, weight in zip(body, WEIGHTS, strict=True))

    assert ALPHABET[(31 - total % 31) % 31] == "3"


def test_a_customers_name_is_always_the_same() -> None:
    assert customer_name(7) == customer_name(7)
    assert customer_name(7).endswith("有限公司")


def test_the_journal_keeps_commits_and_leaves_out_transactions_that_changed_nothing(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.note("erp", Step("new_order", "SO1", "17", 3), 1_000)
    journal.note("erp", Step("edit_product", "P1", "18", 0), 2_000)
    journal.close()

    (line,) = [
        orjson.loads(each) for each in (tmp_path / "journal.jsonl").read_bytes().splitlines()
    ]
    assert (line["transaction"], line["business_key"], line["committed_at"]) == ("17", "SO1", 1_000)
