"""Another folder of declarations is to have what the checkout has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.errors import TongbuError
from tongbu.deploy import commands, deployment
from tongbu.deploy.deployment import Deployment

FOLDERS = ("mappings", "rules", "mirrors")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all three, empty, beside a checkout that has all three."""
    for name in FOLDERS:
        (tmp_path / "streams" / name).mkdir(parents=True)
        (tmp_path / "own" / name).mkdir(parents=True)
    monkeypatch.setattr(deployment, "_STREAMS", tmp_path / "streams")
    return tmp_path / "own"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_what_the_checkout_declares_is_refused(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    with pytest.raises(TongbuError, match=f"has no {name}/") as refused:
        commands.verify(Deployment({}, declarations=folder))
    assert f"cp -r {folder.parent / 'streams' / name} {folder / name} " in refused.value.remedy


def test_an_empty_folder_declares_nothing(folder: Path) -> None:
    subject = Deployment({}, declarations=folder)
    assert [subject.mappings, subject.rules, subject.mirrors] == [[], [], []]


def test_mirrors_that_the_checkout_does_not_have_need_not_be_there(folder: Path) -> None:
    shutil.rmtree(folder.parent / "streams/mirrors")
    shutil.rmtree(folder / "mirrors")
    assert Deployment({}, declarations=folder).mirrors == []


def test_mappings_and_rules_can_be_replayed_without_mirrors(folder: Path) -> None:
    shutil.rmtree(folder / "mirrors")
    subject = Deployment({}, declarations=folder)
    assert [subject.mappings, subject.rules] == [[], []]
