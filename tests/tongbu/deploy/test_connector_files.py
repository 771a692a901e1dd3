"""Files of connectors-config, which people write by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import DeclarationError
from tongbu.deploy import deployment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"a": "1",\n}', "3: is not JSON: "),
        ('{\n"a": "1",\n"b": 5000}', "3: `b` is no text"),
        ('{\n"a": true}', "2: `a` is no text"),
        ('{\n"a": "1",\n"b": "2",\n"a": "3"}', "4: `a` stands twice"),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(deployment, "CONNECTORS", tmp_path)
    (tmp_path / "erp.json").write_text(text)

    with pytest.raises(DeclarationError) as refused:
        deployment.connector_settings("erp.json")

    assert str(refused.value).startswith(f"{tmp_path / 'erp.json'}:{said}")
    assert refused.value.remedy


def test_a_file_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "CONNECTORS", tmp_path)

    with pytest.raises(DeclarationError, match=r"crm\.json:1: can't be read"):
        deployment.connector_settings("crm.json")
