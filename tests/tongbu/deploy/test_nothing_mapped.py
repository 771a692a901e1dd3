"""A source of which no table is mapped or mirrored: nothing of it is captured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.declarations import load_sources
from tongbu.deploy import captured, connectors
from tongbu.deploy.deployment import Deployment


@pytest.mark.parametrize("source", ["erp", "oa"])
def test_its_connector_captures_no_table_as_an_empty_list_would_mean_all(
    source: str, tmp_path: Path
) -> None:
    for name in ("mappings", "rules", "mirrors"):
        (tmp_path / name).mkdir()
    subject = Deployment({}, declarations=tmp_path)

    listed = connectors.settings(subject, source)["table.include.list"]

    assert listed
    assert not re.search(listed, "oa.salary")


@pytest.mark.parametrize("source", ["erp", "oa"])
def test_its_catalog_is_read_without_a_trouble(source: str, stack: dict[str, str]) -> None:
    dsn = stack[f"{source.upper()}_DSN"]

    assert captured.read(source, load_sources()[source], dsn, []).tables == ()
