"""Rounds of harm: the plan follows from the seed, effects are counted one by one, links break and heal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from bench import all_faults
from bench.all_faults import Wanted, together
from bench.harm.clocks import Clocks
from bench.harm.links import Links
from bench.harm.run import Round, report
from bench.harm.stack import Harm
from bench.harm.table import KINDS, choose
from bench.harm.verdict import effects
from bench.harm.wiring import _redirected
from schemas.errors import TongbuError
from tongbu.instance import HOST, ROOT

GOOD = {"lost": 0, "doubled": 0, "mismatched": 0, "withheld": 0, "quiet": True, "parity": {}, "effects": {}}  # fmt: skip


def test_the_same_seed_gives_the_same_faults() -> None:
    assert choose(30, 7) == choose(30, 7)
    assert choose(30, 7) != choose(30, 8)


def test_every_fault_comes_once_before_any_comes_again() -> None:
    all_of_them = {(name, target) for name, kind in KINDS.items() for target in kind.targets}
    assert {(harm.kind, harm.target) for harm in choose(len(all_of_them), 1)} == all_of_them


def test_only_chosen_kinds_and_targets_come() -> None:
    assert {(h.kind, h.target) for h in choose(9, 1, ["kill", "freeze"], ["kafka"])} == {
        ("kill", "kafka"),
        ("freeze", "kafka"),
    }


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(TongbuError, match="unknown kind: flood") as refused:
        Wanted(1, 1, kinds=("flood",)).check()
    assert "disk-full" in refused.value.remedy


@pytest.mark.parametrize(
    ("wanted", "message", "remedy"),
    [
        (
            Wanted(1, 1, kinds=("fill",), targets=("kafka",)),
            "nothing of fill is done to kafka",
            "fill: warehouse, oa",
        ),
        (Wanted(1, 1, part="processor", kinds=("kill",)), "a whole stack", "bench.faults --only"),
    ],
)
def test_a_choice_that_leaves_no_fault_to_be_done_is_refused(
    wanted: Wanted, message: str, remedy: str
) -> None:
    with pytest.raises(TongbuError, match=message) as refused:
        wanted.check()
    assert remedy in refused.value.remedy


def test_of_a_hundred_rounds_a_quarter_is_the_processors() -> None:
    wanted = Wanted(100, 1)
    assert (wanted.share("stack"), wanted.share("processor")) == (75, 25)
    assert Wanted(5, 1, part="processor").share("stack") == 0


def test_an_approval_without_an_event_is_lost_and_one_with_two_is_doubled() -> None:
    assert effects(["a", "b", "c"], ["a", "c", "c"]) == {
        "approved": 3,
        "lost": 1,
        "doubled": 1,
        "examples": ["b", "c"],
    }


def test_an_event_that_nobody_approved_is_one_too_many() -> None:
    found = effects(["a"], ["a", "z"])
    assert (found["lost"], found["doubled"], found["examples"]) == (0, 1, ["z"])


def test_a_round_whose_change_never_came_is_stuck_and_a_slow_one_is_late() -> None:
    harm = Harm("kill", "kafka", 2.0)
    rounds = [
        Round(harm, {"warehouse": 1.0, "oa": 16.0}),
        Round(harm, {"warehouse": 1.0, "oa": None}),
    ]
    found = report(rounds, {}, GOOD)
    assert (found["stuck"], found["late"], found["max_recovery_s"]) == (1, 1, 16.0)


def test_how_long_the_longest_faults_lasted_is_told_apart_from_recovery() -> None:
    rounds = [Round(Harm("kill", name, 2.0), {"oa": 1.0}, (), s) for name, s in (("kafka", 17.5), ("oa", 0.5))]  # fmt: skip
    found = report(rounds, {}, GOOD)
    assert (found["late"], found["longest_faults_s"]) == (0, {"kill kafka": 17.5, "kill oa": 0.5})


def test_ids_that_are_left_withheld_are_stuck_and_so_is_what_is_still_on_its_way() -> None:
    assert report([], {}, GOOD | {"withheld": 2})["stuck"] == 2
    assert report([], {}, GOOD | {"quiet": False})["stuck"] == 1


def test_a_round_with_trouble_is_stuck_though_its_change_came() -> None:
    found = report(
        [Round(Harm("fill", "oa", 2.0), {"oa": 1.0}, ("connector oa failed",))], {}, GOOD
    )
    assert found["stuck"] == 1
    assert found["stuck_rounds"][0]["trouble"] == ("connector oa failed",)


def test_one_report_sums_what_its_parts_have_lost() -> None:
    part = {"rounds": 3, "lost": 1, "doubled": 0, "mismatched": 0, "stuck": 0, "max_recovery_s": 2.0}  # fmt: skip
    found = together(1, {"stack": part | {"late": 1}, "processor": part | {"max_recovery_s": 20.0}})
    assert (found["rounds"], found["lost"], found["late"], found["max_recovery_s"]) == (6, 2, 2, 20)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"lost": 1}, "did not heal"),
        ({"doubled": 1}, "did not heal"),
        ({"mismatched": 1}, "did not heal"),
        ({"stuck": 1}, "did not heal"),
        ({"late": 1}, "longer than 15 s"),
        ({"rounds": 0}, "no fault was done"),
    ],
)
def test_make_faults_fails_where_harm_did_not_heal_was_late_or_was_not_done(
    changed: dict[str, int], told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"rounds": 1, "late": 0, "max_recovery_s": 1.0} | dict.fromkeys(("lost", "doubled", "mismatched", "stuck"), 0)  # fmt: skip
    monkeypatch.setenv("TONGBU_RUN", str(tmp_path))
    monkeypatch.setattr(all_faults, "do_harm", lambda *_, **__: part | changed)
    wanted = Wanted(1, 1, part="stack")

    if told is None:
        all_faults.perform(wanted, "harm")
    else:
        with pytest.raises(TongbuError, match=told):
            all_faults.perform(wanted, "harm")
    assert (tmp_path / "reports/faults.json").exists()


_TIDY = """
import pathlib, sys, time
try:
    pathlib.Path(sys.argv[1], "begun").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path(sys.argv[1], "tidy").touch()
"""
_PARENT = """
import signal, sys
from bench.all_faults import to_its_end
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(to_its_end([sys.executable, "-c", sys.argv[2], sys.argv[1]]))
"""


def test_after_ctrl_c_the_processors_rounds_have_the_time_to_put_away_what_they_started(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path), _TIDY]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as parent:
        while not (tmp_path / "begun").exists():
            assert parent.poll() is None
            time.sleep(0.05)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does

        assert parent.wait(30) == 0
    assert (tmp_path / "tidy").exists()


def test_an_address_with_the_port_leads_elsewhere_and_no_other_number_does() -> None:
    before = {"DSN": "mysql://u:p15432@127.0.0.1:15432/x", "PORT": "15432", "OTHER": "h:154321"}
    assert _redirected(before, 15432, 7) == {
        "DSN": "mysql://u:p15432@127.0.0.1:7/x",
        "PORT": "7",
        "OTHER": "h:154321",
    }


@contextmanager
def _echo() -> Iterator[int]:
    """Serve one connection after the other on a port, giving back what comes."""
    server = socket.create_server((HOST, 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                while data := _received(client):
                    client.sendall(data)

    Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except OSError:
        return b""


def test_a_link_that_is_cut_breaks_connections_and_refuses_new_ones_until_it_heals() -> None:
    with _echo() as upstream, Links() as links:
        port = links.add("a>b", upstream)
        with socket.create_connection((HOST, port), 10) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            links.do(links["a>b"].cut())
            assert _received(client) == b""
        with socket.create_connection((HOST, port), 10) as refused:
            assert _received(refused) == b""
        links.do(links["a>b"].heal())
        with socket.create_connection((HOST, port), 10) as healed:
            healed.sendall(b"2")
            assert healed.recv(1) == b"2"


def test_a_link_that_is_stalled_brings_everything_over_when_it_heals() -> None:
    with _echo() as upstream, Links() as links:
        port = links.add("a>b", upstream)
        with socket.create_connection((HOST, port), 10) as client:
            links.do(links["a>b"].stall())
            client.sendall(b"1")
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            links.do(links["a>b"].heal())
            client.settimeout(10)
            assert client.recv(1) == b"1"


def test_a_process_of_ours_goes_by_its_own_clock_and_waits_by_the_true_one() -> None:
    with Clocks(["processor"]) as clocks:
        environment = clocks.environment("processor")
        clocks.set("processor", 3600)
        tell = "import time; a = time.monotonic(); print(time.time()); print(time.monotonic() - a < 60)"
        said = subprocess.run(
            [sys.executable, "-c", tell],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
    ahead, waits_truly = said.stdout.split()
    assert 3500 < float(ahead) - time.time() < 3700
    assert waits_truly == "True"
    assert not Path(environment["TONGBU_CLOCK"]).parent.exists(), "a run leaves nothing behind"


def test_a_clock_that_can_not_be_set_is_said_with_the_reason() -> None:
    with Clocks([]) as clocks:
        assert "JVM" in clocks.missing("kafka")
        assert clocks.environment("kafka") == {}
