from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import TongbuError
from tongbu.instance import ROOT, Instance, Ports


@pytest.fixture(autouse=True)
def _run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))


def test_the_default_instance_has_the_documented_ports() -> None:
    assert Instance.load("default").ports == Ports()


def test_an_instance_keeps_its_ports_and_secrets() -> None:
    assert Instance.load("x") == Instance.load("x")


def test_two_instances_share_neither_ports_nor_secrets() -> None:
    one, other = Instance.load("one"), Instance.load("other")

    assert one.ports != other.ports
    assert one.secrets != other.secrets


def test_a_block_with_a_taken_port_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    free = Instance.load("first").ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]

        assert not Ports(kafka=number).free()
    assert free != Ports()


def test_instances_of_several_checkouts_that_start_at_once_get_other_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = set()
    for checkout in ("a", "b", "c", "d", "e"):
        monkeypatch.setenv("TONGBU_RUN", str(tmp_path / checkout))
        ports.add(Instance.load("test").ports)

    assert len(ports) > 1


def test_ports_that_an_older_version_did_not_know_are_of_the_same_block(tmp_path: Path) -> None:
    ports = Instance.load("x").ports
    file = tmp_path / "x/instance.json"
    kept = json.loads(file.read_text())
    del kept["ports"]["mysql"]
    file.write_text(json.dumps(kept))

    assert Instance.load("x").ports == ports


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Instance.load("x")

    assert (tmp_path / "x/secrets.json").stat().st_mode & 0o777 == 0o600


def test_the_environment_says_where_everything_is() -> None:
    environment = Instance.load("x").environment()

    assert set(environment) == {
        "KAFKA_BOOTSTRAP", "CONNECT_URL", "REGISTRY_URL", "ERP_DSN", "OA_DSN", "WAREHOUSE_DSN", "HUB_DSN",
        "OA_HUB_DSN", "WEBHOOK_URL", "WEBHOOK_SECRET", "TONGBU_DATA", "ERP_CAPTURE_DSN", "OA_CAPTURE_DSN",
    }  # fmt: skip
    assert "admin" not in " ".join(environment.values())


@pytest.mark.parametrize("name", ["", "Upper", "../x", "a/b", "-x", "x" * 40])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(TongbuError, match="not a name"):
        Instance.load(name)


def test_a_secret_that_an_older_version_did_not_have_is_added(tmp_path: Path) -> None:
    first = Instance.load("x").secrets
    file = tmp_path / "x/secrets.json"
    file.write_text(json.dumps({"erp": first.erp}))

    later = Instance.load("x").secrets

    assert later.erp == first.erp
    assert Instance.load("x").secrets == later


def test_a_full_disk_takes_no_secrets_away(tmp_path: Path) -> None:
    Instance.load("x")
    file = tmp_path / "x/secrets.json"
    kept = json.loads(file.read_text())
    del kept["webhook"]
    file.write_text(json.dumps(kept))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(TongbuError):
            Instance.load("x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert json.loads(file.read_text()) == kept
    assert Instance.load("x").secrets.erp == kept["erp"]


def test_a_folder_that_can_not_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGBU_RUN", __file__)
    with pytest.raises(TongbuError, match=r"test_instance\.py/x: Not a directory\n.*TONGBU_RUN"):
        Instance.load("x")


@pytest.mark.parametrize("file", ["instance.json", "secrets.json"])
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_file_of_an_instance_is_told_and_left_as_it_is(
    file: str, content: str, tmp_path: Path
) -> None:
    Instance.load("x")
    (tmp_path / "x" / file).write_text(content)

    with pytest.raises(TongbuError, match="is not what was written there"):
        Instance.load("x")
    assert (tmp_path / "x" / file).read_text() == content


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (["plan"], {}, "the environment has no ERP_DSN"),
        (["load", "--seconds", "1"], {}, "the environment has no TONGBU_DATA"),
        (["run", "prepare"], {}, "the environment has no POSTGRES_ADMIN_DSN"),
        (["run", "processor"], {}, "the environment's TONGBU_DATA: Field required"),
        (
            ["run", "processor"],
            {"TONGBU_DATA": "/tmp", "TONGBU_SESSION_SECONDS": "1"},
            "TONGBU_SESSION_SECONDS: Input should be greater than or equal to 6",
        ),
        (["run", "watch"], {"TONGBU_METRICS": "here"}, "TONGBU_METRICS is `here`"),
    ],
    ids=["plan", "load", "prepare", "nothing given", "out of range", "no port"],
)
def test_an_environment_that_lacks_something_or_has_it_wrong_is_told_as_a_container_needs(
    command: list[str], given: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tongbu.cli", *command],
        env={"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP": "127.0.0.1:1", **given},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_character_that_the_terminal_lacks_is_spelled_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tongbu.cli", "env"],
        env={
            "PATH": os.environ["PATH"],
            "TONGBU_RUN": f"{tmp_path}/堃€",
            "PYTHONIOENCODING": "gbk",
        },
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "堃".encode("gbk") + rb"\u20ac" in done.stdout
