"""What `tongbu plan` and `tongbu apply` look at before anything else."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from schemas import released
from schemas.errors import DeclarationError
from tongbu.deploy import commands


def test_a_changed_released_schema_stops_plan_and_apply_before_any_service_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finding = DeclarationError("1.0.avsc", 1, "is released and was changed", "Restore it.")
    monkeypatch.setattr(released, "check", lambda: [finding])
    deployment = Mock(spec_set=())

    with pytest.raises(DeclarationError, match="was changed"):
        commands.perform(deployment, None, lambda change: None)
