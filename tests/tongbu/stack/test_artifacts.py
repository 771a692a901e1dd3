from __future__ import annotations

import stat
from pathlib import Path

import pytest

from schemas.errors import TongbuError
from tongbu.stack import artifacts, java


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TONGBU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_what_is_in_the_cache_is_not_fetched_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.folder().mkdir(parents=True)
    monkeypatch.setenv("PATH", "")

    assert artifacts.fetch(pytest.fail) == artifacts.folder()


def test_a_missing_maven_is_named_with_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(TongbuError, match="apt-get install maven"):
        artifacts.fetch(lambda _: None)


def test_another_kind_of_machine_is_sent_to_the_containers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.platform, "machine", lambda: "arm64")

    with pytest.raises(TongbuError, match="compose"):
        artifacts.fetch(lambda _: None)


def test_a_failed_download_leaves_nothing_behind_and_says_why(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "bin/mvn", "echo '[ERROR] no such artifact'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(artifacts, "find_java", lambda: Path("/usr/bin/java"))

    with pytest.raises(TongbuError, match="no such artifact"):
        artifacts.fetch(lambda _: None)

    assert [path.name for path in (cache / "servers").iterdir()] == ["lock"]


def test_progress_names_files_not_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        "[INFO] Downloaded from central: https://repo.example.org/a/b/kafka-1.jar (12 MB at 3 MB/s)"
    )
    _program(tmp_path / "bin/mvn", f"echo '{line}'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(artifacts, "find_java", lambda: Path("/usr/bin/java"))
    told: list[str] = []

    artifacts._download(tmp_path, told.append)

    assert told == ["fetching the servers: 1 files, kafka-1.jar (12 MB)"]


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_321"', 8),
        ("nonsense", 0),
    ],
)
def test_java_versions_are_understood(tmp_path: Path, answer: str, version: int) -> None:
    assert java._version(_program(tmp_path / "java", f"echo '{answer}' >&2")) == version


def test_a_java_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _program(tmp_path / "old/bin/java", "echo 'version \"11.0.2\"' >&2")
    new = _program(tmp_path / "new/java", "echo 'version \"21\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", f"{new.parent}:/usr/bin:/bin")

    assert java.find_java() == new
