"""docker/compose.yaml is valid and says the same as the native stack. No daemon is needed, and none was there to run it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tongbu.instance import ROOT, Instance, Ports
from tongbu.stack import services
from tongbu.stack.services import Service


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The composition with the passwords of an instance, as the docker CLI understands it."""
    spec = importlib.util.find_spec("compose")
    assert spec is not None
    assert spec.submodule_search_locations
    # The package's own script answers 0 whatever happens; the binary beside it does not.
    binary = Path(spec.submodule_search_locations[0]) / "docker-compose"
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TONGBU_RUN", str(run))
        secrets = Instance.load("default").compose_secrets()
    passwords = run / "secrets.env"
    passwords.write_text("".join(f"{key}={value}\n" for key, value in secrets.items()))
    answer = subprocess.run(
        [
            binary,
            "-f",
            ROOT / "docker/compose.yaml",
            "--env-file",
            passwords,
            "--profile",
            "*",
            "config",
            "--format",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(run)},
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TONGBU_RUN", str(tmp_path_factory.mktemp("run")))
        instance = Instance.load("default")
    listed = [*services.servers(instance, Path("/programs")), *services.pipeline(instance)]
    return {service.name: service for service in listed}


def test_containers_are_the_native_services_and_two_that_run_once(
    composed: dict[str, Any], native: dict[str, Service]
) -> None:
    assert set(composed["services"]) == {*native, "prepare", "apply"}


def test_what_does_not_run_once_comes_back_with_its_host(composed: dict[str, Any]) -> None:
    ends = {name for name, each in composed["services"].items() if each["restart"] == "no"}
    back = {name for name, each in composed["services"].items() if each["restart"] == "unless-stopped"}  # fmt: skip
    assert (ends, ends | back) == ({"prepare", "apply"}, composed["services"].keys())


def test_published_ports_are_the_native_ones_on_loopback(composed: dict[str, Any]) -> None:
    published = {
        name: (port["host_ip"], int(port["published"]))
        for name, service in composed["services"].items()
        for port in service.get("ports", [])
    }
    ports = Ports()

    assert published == {
        "postgres": ("127.0.0.1", ports.postgres),
        "mariadb": ("127.0.0.1", ports.mariadb),
        "mysql": ("127.0.0.1", ports.mysql),
        "kafka": ("127.0.0.1", ports.kafka),
        "registry": ("127.0.0.1", ports.registry),
        "connect": ("127.0.0.1", ports.connect),
        "webhook-receiver": ("127.0.0.1", ports.webhook),
    }


def test_our_processes_get_the_same_environment(
    composed: dict[str, Any], native: dict[str, Service]
) -> None:
    for name in ("processor", "sink-warehouse", "webhook-receiver"):
        assert set(composed["services"][name]["environment"]) == set(native[name].environment)


def test_servers_read_the_variables_that_their_files_name(
    composed: dict[str, Any], native: dict[str, Service]
) -> None:
    for name in ("kafka", "connect"):
        ours = {
            key for key in composed["services"][name]["environment"] if key.startswith("TONGBU_")
        }
        assert ours == set(native[name].environment)


def test_every_mounted_file_exists(composed: dict[str, Any]) -> None:
    mounted = [
        Path(volume["source"])
        for service in composed["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]

    assert mounted
    assert all(file.is_file() for file in mounted)


def test_a_container_never_gets_a_secret_by_a_name_that_connect_prints(
    composed: dict[str, Any],
) -> None:
    assert not [
        key for key in composed["services"]["connect"]["environment"] if key.startswith("CONNECT_")
    ]


def test_jvms_have_the_native_options_and_the_collector_in_place_of_the_start_scripts(
    composed: dict[str, Any], native: dict[str, Service]
) -> None:
    for name in ("kafka", "connect"):
        environment = composed["services"][name]["environment"]
        heap = environment["KAFKA_HEAP_OPTS"].split()
        # Kafka's scripts ask for G1 unless this variable is set, and a JVM that is told two collectors does not start.
        performance = environment["KAFKA_JVM_PERFORMANCE_OPTS"].split()

        assert [option for option in performance if option.endswith("GC")]
        assert not [option for option in heap if option.endswith("GC")]
        asked = {option for option in native[name].command if option.startswith(("-X", "-Duser."))}
        assert {*heap, *performance} == asked
