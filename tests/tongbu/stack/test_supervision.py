"""The supervisor with small processes instead of servers."""

from __future__ import annotations

import io
import os
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console
from supervisor.xmlrpc import Faults

from schemas.errors import ServiceUnavailable, TongbuError
from tongbu.instance import Instance
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress
from tongbu.stack.services import Service
from tongbu.stack.supervision import Supervisor


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    supervisor = Supervisor(Instance.load("small"))
    yield supervisor
    supervisor.stop(at_once=True)


def _service(name: str, script: str, **more: object) -> Service:
    more = {"steady_seconds": 0} | more
    return Service(name, ["sh", "-c", script], Path("/"), **more)  # type: ignore[arg-type]


def _has_ended(pid: int) -> bool:
    """An orphan stays in the process table until init gets to it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _start(supervisor: Supervisor, *services: Service) -> str:
    """Start them as `up` does; return what it shows."""
    shown = io.StringIO()
    supervisor.start(services)
    with Progress(Console(file=shown)) as progress:
        lifecycle._start(supervisor, services, progress)
    return shown.getvalue()


def test_a_service_starts_after_those_it_needs(supervisor: Supervisor, tmp_path: Path) -> None:
    file = tmp_path / "first-is-ready"

    def ready() -> None:
        file.touch()

    first = _service("first", "sleep 60", ready=ready)
    second = _service("second", f"test -e {file} && sleep 60", needs=("first",))

    assert "second" in _start(supervisor, first, second)


def test_a_service_that_keeps_dying_is_given_up_with_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(
        ServiceUnavailable, match=r"broken dies again and again.*status 3.*disk full"
    ):
        _start(supervisor, _service("broken", "echo disk full; exit 3", steady_seconds=1))


def test_values_reach_a_service_as_they_are(supervisor: Supervisor, tmp_path: Path) -> None:
    out = tmp_path / "out"
    service = _service(
        "teller",
        f'echo "$SAYING" > {out}; sleep 60',
        environment={"SAYING": "100% of 同步, a=b"},
    )

    _start(supervisor, service)
    while not out.exists() or not out.read_text():
        time.sleep(0.05)

    assert out.read_text() == "100% of 同步, a=b\n"


def test_a_changed_service_is_started_anew_and_the_others_stay(supervisor: Supervisor) -> None:
    kept = _service("kept", "sleep 60")
    _start(supervisor, kept, _service("changed", "sleep 60"))
    before = {name: process["pid"] for name, process in supervisor.processes().items()}

    _start(supervisor, kept, _service("changed", "sleep 61"), _service("added", "sleep 60"))

    after = {name: process["pid"] for name, process in supervisor.processes().items()}
    assert after["kept"] == before["kept"]
    assert after["changed"] != before["changed"]
    assert after["added"]


def test_a_service_that_is_dead_before_supervisord_answers_is_left_to_it(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: object) -> None:
        raise xmlrpc.client.Fault(Faults.SPAWN_ERROR, "SPAWN_ERROR: broken")

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "rpc", SimpleNamespace(startProcess=answer))
        supervisor.start_process("broken")


def test_a_port_of_another_program_is_named(supervisor: Supervisor) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(TongbuError, match=f"port {port}.*taken by another program"):
            _start(supervisor, _service("mine", "sleep 60", port=port))


def test_a_dead_supervisors_children_are_stopped_before_new_ones_start(
    supervisor: Supervisor,
) -> None:
    service = _service("one", "sleep 60")
    _start(supervisor, service)
    orphan = supervisor.processes()["one"]["pid"]
    os.kill(supervisor.rpc.getPID(), 9)
    while supervisor.running():
        time.sleep(0.05)

    _start(supervisor, service)

    assert _has_ended(orphan)


def test_a_deep_folder_still_gets_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path / ("deep" * 20)))
    deep = Supervisor(Instance.load("small"))
    try:
        _start(deep, _service("one", "sleep 60"))
    finally:
        deep.stop(at_once=True)
