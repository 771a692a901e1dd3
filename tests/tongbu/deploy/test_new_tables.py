"""Tables that are new to a target."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import targets as live
from tongbu.deploy import fills, targets
from tongbu.deploy.deployment import Deployment


def test_they_are_filled_also_where_a_later_statement_was_refused_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binding = RelationalBinding.model_validate(
        {
            "binding": "w",
            "kind": "postgresql",
            "dsn": "postgresql://127.0.0.1/w",
            "sources": ["erp"],
        }
    )
    there, announced = set[str](), list[str]()

    def apply(_: Any, statements: list[str]) -> None:
        for each in statements:
            if each == "refer":
                raise TongbuError("refused", "Grant it.")
            there.add(each)

    monkeypatch.setattr(live, "apply", apply)
    monkeypatch.setattr(live, "own", lambda _: ["tongbu_fill"])
    monkeypatch.setattr(live, "plan", lambda *_: ["orders", "refer"])
    monkeypatch.setattr(live, "lacking", lambda *_: ([] if "orders" in there else ["order"], []))
    monkeypatch.setattr(fills, "needed", lambda _, __, new: bool(new))
    monkeypatch.setattr(fills, "announce", lambda _, __, new: announced.extend(new))

    for _ in ("refused", "applied again"):
        with pytest.raises(TongbuError, match="refused"):
            targets._perform(Deployment({}), binding, ["orders", "refer"])

    assert announced == ["order"]
    assert there == {"tongbu_fill", "orders"}
