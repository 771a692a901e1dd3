"""What `tongbu up`, `status` and `down` promise, on the real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pymysql
import pytest
from rich.console import Console

from tongbu.deploy.captured import mysql_arguments
from tongbu.instance import Instance
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress
from tongbu.stack.status import State, inspect
from tongbu.stack.supervision import MARK, Supervisor, stop_orphans

SERVERS = {"postgres", "mariadb", "kafka", "registry", "connect"}


@pytest.fixture
def instance(stack_instance: Instance) -> Iterator[Instance]:
    """The session's stack, brought up again for the next test when this one has broken it."""
    yield stack_instance
    _up(stack_instance)


def _up(instance: Instance) -> None:
    with Progress(Console(stderr=True)) as progress:
        lifecycle.up(instance, progress, with_pipeline=False, extras=["mysql"])


def _states(instance: Instance) -> dict[str, State]:
    return {state.service: state for state in inspect(instance) if state.service in SERVERS}


def _wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_all_servers_are_ready_after_up(instance: Instance) -> None:
    assert {name: state.state for name, state in _states(instance).items()} == dict.fromkeys(
        SERVERS, "ready"
    )


def test_mysql_is_there_when_it_is_asked_for(instance: Instance, mysql_dsn: str) -> None:
    with pymysql.connect(**mysql_arguments(mysql_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@version, @@gtid_mode, @@binlog_row_image")

        version, *capture = cursor.fetchone() or ()
    assert version.startswith("8.0")
    assert capture == ["ON", "FULL"]


def test_a_second_up_starts_nothing(instance: Instance) -> None:
    before = {name: state.pid for name, state in _states(instance).items()}

    _up(instance)

    assert {name: state.pid for name, state in _states(instance).items()} == before


def test_databases_refuse_whoever_has_no_password(instance: Instance) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{instance.ports.postgres}/postgres")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        pymysql.connect(host="127.0.0.1", port=instance.ports.mariadb, user="root")


def test_a_killed_server_comes_back_and_status_says_why(instance: Instance) -> None:
    before = _states(instance)["registry"]
    assert before.pid

    os.kill(before.pid, signal.SIGKILL)

    _wait_until(lambda: _states(instance)["registry"].restarts > before.restarts)
    _wait_until(lambda: _states(instance)["registry"].state == "ready")
    after = _states(instance)["registry"]
    assert after.pid != before.pid
    assert after.last_death is not None
    assert after.last_death.reason == "terminated by SIGKILL"


def test_a_registered_schema_survives_the_death_of_the_registry(
    instance: Instance, stack: dict[str, str]
) -> None:
    url = f"{stack['REGISTRY_URL']}/subjects/survivor-value/versions"
    schema = {
        "schema": '{"type":"record","name":"Survivor","fields":[{"name":"id","type":"long"}]}'
    }
    number = httpx.post(url, json=schema).raise_for_status().json()["id"]

    pid = _states(instance)["registry"].pid
    assert pid  # a signal to 0 would end this test's own process group
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: _states(instance)["registry"].state == "ready")

    assert httpx.post(url, json=schema).raise_for_status().json()["id"] == number


def test_up_takes_over_after_the_supervisor_was_killed(instance: Instance) -> None:
    before = {state.pid for state in _states(instance).values()}

    os.kill(Supervisor(instance).rpc.getPID(), signal.SIGKILL)
    _wait_until(lambda: not Supervisor(instance).running())
    _up(instance)

    states = _states(instance)
    assert {state.state for state in states.values()} == {"ready"}
    assert not before & {state.pid for state in states.values()}
    assert not [pid for pid in before if pid and psutil.pid_exists(pid)]


def test_only_processes_of_the_same_instance_are_orphans(tmp_path: Path) -> None:
    def sleeper(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        return subprocess.Popen(command, env={**os.environ, MARK: str(folder)})

    mine, other = sleeper(tmp_path / "mine"), sleeper(tmp_path / "other")
    try:
        _wait_until(lambda: psutil.Process(mine.pid).environ().get(MARK) is not None)

        assert stop_orphans(tmp_path / "mine") == [mine.pid]

        assert other.poll() is None
    finally:
        other.kill()


def test_down_stops_what_up_started_and_nothing_else(instance: Instance) -> None:
    pids = {state.pid for state in _states(instance).values()}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lifecycle.down(instance)

        assert not [pid for pid in pids if pid and psutil.pid_exists(pid)]
        assert {state.state for state in _states(instance).values()} == {"not started"}
        assert bystander.poll() is None
    finally:
        bystander.kill()
