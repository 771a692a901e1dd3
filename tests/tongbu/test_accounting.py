"""No transaction of a load may get lost unnoticed."""

from __future__ import annotations

from tongbu.accounting import settle

ONE, TWO, THREE = ("erp", "1"), ("erp", "2"), ("oa", "0-1-1")


def test_a_transaction_that_came_all_the_way_is_applied() -> None:
    account = settle([ONE, TWO], {ONE, TWO, THREE}, {ONE, TWO, THREE}, [ONE, TWO, THREE])
    assert (account.committed, account.applied, account.lost) == (2, 2, 0)


def test_a_transaction_that_changed_nothing_mapped_is_neither_applied_nor_lost() -> None:
    account = settle([ONE, TWO], {ONE, TWO}, {ONE}, [ONE])
    assert (account.applied, account.nothing_to_tell, account.lost) == (1, 1, 0)


def test_a_transaction_is_missed_at_the_stage_that_it_did_not_reach() -> None:
    account = settle([ONE, TWO, THREE], {ONE, TWO}, {ONE, TWO}, [ONE])
    assert account.not_captured == {THREE}
    assert account.not_applied == {TWO}
    assert (account.applied, account.lost) == (1, 2)
