"""Schema histories follow one another."""

from __future__ import annotations

import pytest

from tongbu.deploy import schema_history


@pytest.mark.parametrize(
    ("live", "following"),
    [("_schema_history.oa", "_schema_history.oa.2"), ("_schema_history.oa.9", "_schema_history.oa.10")],
)  # fmt: skip
def test_each_history_has_a_number_of_its_own(live: str, following: str) -> None:
    assert schema_history.after("_schema_history.oa", live) == following
