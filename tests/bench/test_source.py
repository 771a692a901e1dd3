"""The load of the harness is a process of its own, and its end is told."""

from __future__ import annotations

import pytest

from bench import source
from bench.source import written
from schemas.errors import TongbuError


def test_a_load_that_was_killed_has_said_nothing_and_its_code_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source.sys, "executable", "/bin/false")
    with pytest.raises(TongbuError, match="the load ended: code 1"):
        written("postgresql://nobody@127.0.0.1:1/none", 1, 2, 10, 1, 1)
