"""From the databases' logs to every target, on real services, with processes killed on the way."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson
import psycopg
import pymysql
import pytest
from rich.console import Console

from schemas.declarations import RelationalBinding
from schemas.registry import Registry
from sink_writers import bindings, pulse, targets
from sink_writers.bindings import FOLDER
from tongbu import flow, reconcile, topics
from tongbu.accounting import TRANSACTIONS, Followed
from tongbu.dead_letters import open_letters
from tongbu.deploy import commands as deploy
from tongbu.deploy import fills, lanes, readers
from tongbu.deploy.captured import mysql_arguments
from tongbu.deploy.deployment import Deployment
from tongbu.drift import differences
from tongbu.instance import ROOT, Instance, run_folder
from tongbu.progress import Steps
from tongbu.sources import inspection
from tongbu.stack import lifecycle, status
from tongbu.stack.display import Progress
from tongbu.stack.supervision import Supervisor
from tongbu.world.load import play

T = TypeVar("T")

RATE = 60
#: What is waited for comes in so many seconds, also where memory is five times as slow as usual.
PATIENCE = 240
SINKS = [f"sink-{file.stem}" for file in FOLDER.glob("*.yaml")]


class World:
    """The deployed pipeline of the test's stack."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.environment = dict(os.environ)
        self.bootstrap = self.environment["KAFKA_BOOTSTRAP"]
        self.registry = Registry(self.environment["REGISTRY_URL"])
        self._journal = Path(self.environment["TONGBU_DATA"]) / "journal.jsonl"
        #: What is followed begins now; a module before this one has followed what was committed before.
        self._begins = self._journal.stat().st_size if self._journal.exists() else 0
        self.followed = Followed(self.bootstrap, self.registry, ["erp", "oa"])

    def play(self, transactions: int, seed: int) -> threading.Thread:
        """Start a load; join the thread to wait for its end."""
        thread = threading.Thread(target=play, args=(self.environment, RATE, transactions, seed))
        thread.start()
        return thread

    def kill(self, service: str) -> None:
        """End a supervised process as an out-of-memory killer would; one that is being restarted is waited for."""
        supervisor = Supervisor(self.instance)
        # Process id 0, of one that does not run, would mean this test's own process group.
        pid = _wait_until(lambda: supervisor.processes()[service]["pid"])
        os.kill(pid, signal.SIGKILL)

    @property
    def committed(self) -> set[tuple[str, str]]:
        """The transactions that the business systems committed since the world was made."""
        journal = self._journal.read_bytes()[self._begins :]
        lines = [orjson.loads(line) for line in journal.splitlines()]
        return {(line["source"], line["transaction"]) for line in lines}

    def settle(self) -> None:
        """Wait until everything committed is captured, processed and applied."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.followed.follow()
            if self.committed <= self.followed.captured and not self._behind():
                return
            time.sleep(0.3)
        missing = len(self.committed - self.followed.captured)
        pytest.fail(f"not settled: {missing} not captured, {self._behind()} records behind")

    def _behind(self) -> int:
        lanes = topics.backlog(self.bootstrap, "tongbu-processor", ["cdc.erp", "cdc.oa"])
        return lanes + sum(topics.backlog(self.bootstrap, sink, [TRANSACTIONS]) for sink in SINKS)

    def mismatches(self) -> dict[str, int]:
        """Compare every mapped row of the sources with every target."""
        with Steps(Console(file=StringIO())) as steps:
            subject = Deployment(self.environment)
            report = reconcile.reconcile(subject, reconcile.in_force(subject), steps)
        return {name: parity.mismatches for name, parity in report.targets.items()}


@pytest.fixture(scope="module")
def world(stack_instance: Instance) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in stack_instance.environment().items():
            patch.setenv(key, value)
        with Progress(Console(stderr=True)) as progress:
            lifecycle.up(stack_instance, progress)
        deploy.perform(Deployment(dict(os.environ)), None, lambda _: None)
        _wait_for_snapshot(stack_instance.folder / "processor.json")
        yield World(stack_instance)


def _wait_for_snapshot(status: Path) -> None:
    """What is committed before the snapshot is read comes as its rows, not as a transaction."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        lanes = orjson.loads(status.read_bytes()) if status.exists() else {}
        if lanes and all(lane["snapshot_published"] for lane in lanes.values()):
            return
        time.sleep(0.3)
    pytest.fail(f"the initial snapshot is not published after {PATIENCE} s")


NONE = {"warehouse": 0, "oa": 0}


def test_every_mapped_row_of_the_sources_is_in_every_target(world: World) -> None:
    world.play(300, seed=1).join()
    world.settle()

    assert world.mismatches() == NONE
    assert world.committed <= world.followed.captured


def test_a_second_apply_has_nothing_to_do(world: World) -> None:
    assert deploy.perform(Deployment(world.environment), None, lambda _: None) == 0


def test_the_doctor_finds_deployed_sources_well(world: World) -> None:
    findings = inspection.inspect(Deployment(world.environment))

    assert [each for each in findings if each.level != "ok"] == []
    assert {each.source for each in findings} == {"erp", "oa"}


def test_a_frozen_sink_writer_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_SILENT_S", 3.0)

    def unwell() -> list[str]:
        found = [each.service for each in status.inspect(world.instance) if not each.well]
        return found + [each.name for each in flow.inspect(world.instance) if not each.well]

    _wait_until(lambda: unwell() == [])
    pid = Supervisor(world.instance).processes()["sink-warehouse"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        _wait_until(lambda: unwell() == ["sink-warehouse", "warehouse"])
    finally:
        os.kill(pid, signal.SIGCONT)
    _wait_until(lambda: unwell() == [])


def test_without_kafka_the_doctor_looks_at_the_sources_all_the_same(world: World) -> None:
    away = {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    broker, *found = inspection.inspect(Deployment({**world.environment, **away}))

    assert (broker.check, broker.level) == ("broker", "alarm")
    assert "Kafka at 127.0.0.1:1 does not answer" in broker.what
    assert {(each.source, each.check) for each in found} >= {
        ("erp", "slot"),
        ("erp", "publication"),
        ("oa", "binlog expiry"),
    }
    assert [each for each in found if each.level != "ok"] == []


def test_drift_names_a_new_column_and_one_that_a_mapping_misses(world: World) -> None:
    deployment = Deployment(world.environment)
    assert list(differences(deployment)) == []
    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute('ALTER TABLE "Inventory" ADD "cInvExtra" text')
        erp.execute('ALTER TABLE "Inventory" RENAME "cInvName" TO "cInvTitle"')
        try:
            found = list(differences(deployment))
        finally:
            erp.execute('ALTER TABLE "Inventory" RENAME "cInvTitle" TO "cInvName"')
            erp.execute('ALTER TABLE "Inventory" DROP "cInvExtra"')

    assert any("`cInvExtra` (text) is new" in each.what and not each.breaks for each in found)
    assert any("has no column `cInvName`" in each.what and each.breaks for each in found)


def test_the_watch_notes_a_changed_catalog_and_tells_how_the_sources_are(world: World) -> None:
    deployment = Deployment(world.environment)

    def extra_is_captured() -> bool:
        known = lanes.read(deployment, "erp").captured
        tables = {table.qualified: table for table in known.tables} if known else {}
        return tables["public.Inventory"].column("cInvExtra") is not None

    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute('ALTER TABLE "Inventory" ADD "cInvExtra" text')
        _wait_until(extra_is_captured)
        erp.execute('ALTER TABLE "Inventory" DROP "cInvExtra"')
        _wait_until(lambda: not extra_is_captured())

    url = f"http://127.0.0.1:{world.instance.ports.watch}/metrics"
    told = httpx.get(url, timeout=10).text
    assert 'tongbu_source_check{check="slot",source="erp"} 0.0' in told
    assert 'tongbu_source_wal_status{source="erp"} 0.0' in told
    assert 'tongbu_source_check{check="binlog",source="oa"} 0.0' in told
    assert 'tongbu_source_heartbeat_age_seconds{source="oa"}' in told


def test_a_table_whose_mapped_column_is_renamed_waits_alone_and_goes_on(world: World) -> None:
    def quarantined() -> list[str]:
        lanes_ = orjson.loads((world.instance.folder / "processor.json").read_bytes())
        return list(lanes_["erp"]["quarantined"])

    touch = 'UPDATE "Inventory" SET "cInvDefine1" = %s WHERE "cInvCode" = (SELECT min("cInvCode") FROM "Inventory")'
    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute('ALTER TABLE "Inventory" RENAME "cInvName" TO "cInvTitle"')
        erp.execute(touch, ["while it waits"])
        _wait_until(lambda: quarantined() == ["public.Inventory"])
        world.play(50, seed=21).join()
        world.settle()  # other tables never notice
        assert "public.Inventory" in [each.table for each in differences(Deployment(world.environment))]  # fmt: skip
        refused = _run(world, "snapshot", "erp", "public.Inventory")
        assert refused.returncode != 0
        assert "is quarantined" in refused.stderr
        erp.execute('ALTER TABLE "Inventory" RENAME "cInvTitle" TO "cInvName"')
        erp.execute(touch, ["goes on"])
    _wait_until(lambda: not quarantined())
    world.settle()

    _wait_until(lambda: world.mismatches() == NONE)


def test_kill_9_of_processor_and_sinks_in_mid_load_loses_and_doubles_nothing(world: World) -> None:
    load = world.play(600, seed=2)
    for service in ("processor", "sink-warehouse", "sink-oa", "processor", "sink-order-events"):
        time.sleep(1.2)
        world.kill(service)
    load.join()
    world.settle()

    assert world.mismatches() == NONE


def test_a_large_value_that_an_update_leaves_out_stays_in_both_targets(world: World) -> None:
    memo, phone = secrets.token_hex(20_000), secrets.token_hex(4)
    change = """UPDATE "Customer" SET {} = %s WHERE "cCusCode" = 'C0007'"""
    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute(change.format('"cMemo"'), [memo])
        erp.execute(change.format('"cCusPhone"'), [phone])  # the log has no memo for it (TOAST)
    ask = "SELECT note, phone FROM {}customer WHERE code = 'C0007'"
    with (
        psycopg.connect(world.environment["WAREHOUSE_DSN"], autocommit=True) as warehouse,
        pymysql.connect(**mysql_arguments(world.environment["OA_HUB_DSN"]), autocommit=True) as oa,
    ):

        def rows() -> list[Any]:
            cursor = oa.cursor()
            cursor.execute(ask.format(""))
            return [warehouse.execute(ask.format("canonical.")).fetchone(), cursor.fetchone()]

        _wait_until(lambda: [row[1] for row in rows()] == [phone, phone])
        assert rows() == [(memo, phone), (memo, phone)]


def test_kill_9_of_connect_in_mid_load_loses_and_doubles_nothing(world: World) -> None:
    load = world.play(400, seed=3)
    time.sleep(2)
    world.kill("connect")
    load.join()
    world.settle()

    assert world.mismatches() == NONE


def test_a_damaged_target_is_filled_again_under_load_with_kills_and_a_second_resync(
    world: World,
) -> None:
    subject = Deployment(dict(os.environ))
    warehouse = bindings.load("warehouse")
    assert isinstance(warehouse, RelationalBinding)
    with psycopg.connect(world.environment["WAREHOUSE_DSN"]) as target:
        target.execute("UPDATE canonical.customer SET name = 'damaged'")
        target.execute("INSERT INTO canonical.customer (id, version) VALUES ('erp:zz', 1)")
        target.execute("DELETE FROM canonical.receivable")
    assert world.mismatches()["warehouse"] > 0

    load = world.play(400, seed=5)
    fills.start(subject, warehouse, list(warehouse.entities))
    for _ in range(3):
        time.sleep(0.7)
        world.kill("sink-warehouse")
    second = fills.start(subject, warehouse, list(warehouse.entities))
    world.kill("processor")
    load.join()
    _wait_until(lambda: _filled(warehouse, second))
    world.settle()

    assert world.mismatches() == NONE


def test_a_table_that_is_new_to_a_target_is_filled(world: World) -> None:
    with psycopg.connect(world.environment["WAREHOUSE_DSN"]) as target:
        target.execute("DROP TABLE canonical.receivable")
    made = []
    deploy.perform(Deployment(world.environment), None, made.append)
    warehouse = bindings.load("warehouse")
    assert isinstance(warehouse, RelationalBinding)
    assert [change.kind for change in made] == ["target", "fill"]
    _wait_until(lambda: all(each.is_done for each in targets.condition(warehouse).fills))
    world.settle()

    assert world.mismatches() == NONE


def _filled(binding: RelationalBinding, begun: dict[str, str]) -> bool:
    found = targets.condition(binding)
    return not found.set_aside and begun.keys() <= {each.id for each in found.fills if each.is_done}


def _wait_until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def test_the_approval_route_is_what_sql_says_it_is(world: World) -> None:
    oracle = """
        SELECT 'erp:' || m."cSOCode" FROM "SO_SOMain" m JOIN "Customer" c USING ("cCusCode")
        JOIN "SO_SODetails" d ON d."ID" = m."ID"
        WHERE c."cCusDefine1" = 'A' AND m."cexch_name" = '人民币'
        GROUP BY m."cSOCode" HAVING sum(d."iSum") > 100000"""
    with psycopg.connect(world.environment["ERP_DSN"]) as erp:
        expected = {row[0] for row in erp.execute(oracle)}
    with psycopg.connect(world.environment["WAREHOUSE_DSN"]) as warehouse:
        sql = "SELECT id FROM canonical.sales_order WHERE approval_route = 'auto_approve'"
        found = {row[0] for row in warehouse.execute(sql)}

    assert found == expected
    assert found


def test_totals_of_the_warehouse_equal_those_of_the_erp(world: World) -> None:
    with psycopg.connect(world.environment["ERP_DSN"]) as erp:
        expected = erp.execute('SELECT count(*), sum("iSum") FROM "SO_SODetails"').fetchone()
    with psycopg.connect(world.environment["WAREHOUSE_DSN"]) as warehouse:
        lines = warehouse.execute(
            "SELECT count(*), sum(gross_amount) FROM canonical.sales_order_line"
        ).fetchone()
        orders = warehouse.execute(
            "SELECT sum(line_count), sum(gross_amount) FROM canonical.sales_order"
        ).fetchone()

    assert expected == lines == orders
    assert expected is not None
    assert expected[1] > Decimal(0)


def test_a_poison_row_withholds_only_its_own_id_until_it_is_corrected(world: World) -> None:
    letters = len(open_letters(world.bootstrap, world.registry))
    with pymysql.connect(**mysql_arguments(world.environment["OA_DSN"]), autocommit=True) as oa:
        with oa.cursor() as cursor:
            cursor.execute(
                "INSERT INTO workflow_requestbase (requestid, workflowid, requestname, currentnodetype, createdate, deleted) "
                "VALUES (900001, 17, 'good', '0', '2026-01-05', 0), (900002, 17, 'poison', '0', '2026-13-99', 0)"
            )
        _wait_for(world, "oa:900001")
        poisoned = open_letters(world.bootstrap, world.registry)
        assert len(poisoned) == letters + 1
        assert poisoned[-1]["entity_id"] == "oa:900002"
        assert not _in_warehouse(world, "oa:900002")

        with oa.cursor() as cursor:
            cursor.execute(
                "UPDATE workflow_requestbase SET createdate = '2026-01-06' WHERE requestid = 900002"
            )
        _wait_for(world, "oa:900002")

    assert len(open_letters(world.bootstrap, world.registry)) == letters
    world.settle()
    assert world.mismatches() == NONE


def _in_warehouse(world: World, id_: str) -> bool:
    with psycopg.connect(world.environment["WAREHOUSE_DSN"]) as warehouse:
        return bool(
            warehouse.execute("SELECT FROM canonical.order_approval WHERE id = %s", [id_]).rowcount
        )


def _wait_for(world: World, id_: str) -> None:
    end = time.monotonic() + PATIENCE
    while not _in_warehouse(world, id_):
        assert time.monotonic() < end, f"{id_} did not arrive"
        time.sleep(0.1)


def test_a_snapshot_under_load_and_kills_fills_in_what_was_missed_and_sweeps_what_is_gone(
    world: World,
) -> None:
    _change_behind_the_back_of_capture(world)
    world.settle()
    assert all(count > 0 for count in world.mismatches().values())

    load = world.play(500, seed=7)
    ended = _start_tongbu(world, "snapshot", "erp", "public.Customer", "public.Ap_Vouch")
    _wait_until(lambda: _reads_tables(world, "erp"))
    ended.kill()
    world.kill("connect")
    world.kill("processor")
    taken = [
        orjson.loads(_tongbu(world, "snapshot", *each, "--json"))
        for each in (
            ("erp", "public.Customer", "public.Ap_Vouch"),
            ("oa", "oa.workflow_requestbase"),
        )
    ]
    load.join()

    assert [each["entities"] for each in taken] == [
        ["customer", "receivable", "sales_order"],
        ["business_trip", "order_approval"],
    ]
    assert all(each["rows"] > 0 for each in taken)
    _wait_until(lambda: world.mismatches() == NONE)
    assert readers.running(Deployment(world.environment), "erp") == []


def _change_behind_the_back_of_capture(world: World) -> None:
    """Delete and change rows so that capture never sees it, as where a slot was lost or a binlog purged."""
    url = urlsplit(world.environment["ERP_DSN"])
    admin = urlsplit(world.instance.postgres_admin_dsn())._replace(path=url.path)
    with psycopg.connect(urlunsplit(admin), autocommit=True) as erp:
        hidden = '"Ap_Vouch", "Customer"'
        erp.execute(f"ALTER PUBLICATION tongbu DROP TABLE {hidden}")
        erp.execute('DELETE FROM "Ap_Vouch" WHERE ctid IN (SELECT ctid FROM "Ap_Vouch" LIMIT 3)')
        erp.execute("""UPDATE "Customer" SET "cMemo" = 'never captured'""")
        erp.execute(f"ALTER PUBLICATION tongbu ADD TABLE {hidden}")
    arguments = mysql_arguments(world.instance.mariadb_admin_dsn()) | {"database": "oa"}
    with pymysql.connect(**arguments, autocommit=True) as oa, oa.cursor() as cursor:
        cursor.execute("SET sql_log_bin = 0")
        cursor.execute("DELETE FROM workflow_requestbase WHERE workflowid = 17 LIMIT 3")


def _reads_tables(world: World, source: str) -> bool:
    return bool(lanes.read(Deployment(world.environment), source).reading)


def test_a_mapping_that_newly_reads_a_table_comes_into_force_after_its_snapshot_under_load(
    world: World, tmp_path: Path
) -> None:
    changed = tmp_path / "declarations"
    for folder in ("mappings", "rules"):
        shutil.copytree(ROOT / "streams" / folder, changed / folder)
    _look_up(changed / "mappings/u8/customer.yaml", "public.Remark", "cCusCode", "note: cMemo")
    _look_up(
        changed / "mappings/ecology/order_approval.yaml",
        "oa.remark",
        "requestid",
        "opinion: form.shyj",
    )
    world.play(100, seed=9).join()  # so that there is an approval
    approval = _make_remarks(world)
    load = world.play(400, seed=8)

    _tongbu(world, "apply", "--declarations", str(changed))

    load.join()
    with psycopg.connect(world.environment["WAREHOUSE_DSN"], autocommit=True) as warehouse:
        customers = "SELECT count(*) FROM canonical.customer WHERE note IS DISTINCT FROM 'a remark'"
        opinion = "SELECT opinion FROM canonical.order_approval WHERE id = %s"
        _wait_until(lambda: warehouse.execute(customers).fetchone() == (0,))
        _wait_until(lambda: warehouse.execute(opinion, [approval]).fetchone() == ("a remark",))
    assert _tongbu(world, "apply", "--declarations", str(changed)).strip() == "nothing to do"
    oa = httpx.get(f"{world.environment['CONNECT_URL']}/connectors/oa/config").json()
    assert oa["snapshot.mode"] == "initial"  # a start in `recovery` fails after a change of columns

    _tongbu(world, "apply")  # the shipped mappings again: nobody reads the tables any more

    world.settle()
    _wait_until(lambda: world.mismatches() == NONE)
    assert _tongbu(world, "apply").strip() == "nothing to do"
    _drop_remarks(world)


def _look_up(mapping: Path, table: str, key: str, field: str) -> None:
    text = mapping.read_text(encoding="utf-8")
    assert field in text
    lookup = f"lookups:\n  remark: {{from: {table}, key: {{{key}: {key}}}}}\nfields:\n"
    text = text.replace("fields:\n", lookup, 1).replace(
        field, f"{field.partition(':')[0]}: remark.text"
    )
    mapping.write_text(text, encoding="utf-8")


def _make_remarks(world: World) -> str:
    """Make tables that nobody captures, with rows, as their owner and DBA do; give the id of an approval that has one."""
    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute('CREATE TABLE "Remark" ("cCusCode" varchar(20) PRIMARY KEY, text text)')
        erp.execute("""INSERT INTO "Remark" SELECT "cCusCode", 'a remark' FROM "Customer\"""")
        user = urlsplit(world.environment["ERP_CAPTURE_DSN"]).username
        erp.execute(f'GRANT SELECT ON "Remark" TO "{user}"')
        erp.execute('ALTER PUBLICATION tongbu ADD TABLE "Remark"')
    arguments = mysql_arguments(world.environment["OA_DSN"])
    with pymysql.connect(**arguments, autocommit=True) as oa, oa.cursor() as cursor:
        cursor.execute("CREATE TABLE remark (requestid int PRIMARY KEY, text varchar(99))")
        cursor.execute("INSERT INTO remark SELECT requestid, 'a remark' FROM workflow_requestbase")
        cursor.execute("SELECT min(requestid) FROM workflow_requestbase WHERE workflowid = 17")
        return f"oa:{cursor.fetchone()[0]}"


def _drop_remarks(world: World) -> None:
    with psycopg.connect(world.environment["ERP_DSN"], autocommit=True) as erp:
        erp.execute('DROP TABLE "Remark"')
    arguments = mysql_arguments(world.environment["OA_DSN"])
    with pymysql.connect(**arguments, autocommit=True) as oa, oa.cursor() as cursor:
        cursor.execute("DROP TABLE remark")


def test_the_capture_users_cannot_write(world: World) -> None:
    with psycopg.connect(world.environment["ERP_CAPTURE_DSN"]) as erp:
        for statement in (
            'DELETE FROM "Customer"',
            'UPDATE "Customer" SET "cMemo" = NULL',
            "CREATE TABLE t (i int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                erp.execute(statement)
            erp.rollback()
    with (
        pymysql.connect(**mysql_arguments(world.environment["OA_CAPTURE_DSN"])) as oa,
        oa.cursor() as cursor,
    ):
        for statement in ("DELETE FROM oa.hrmresource", "CREATE TABLE oa.t (i int)"):
            with pytest.raises(pymysql.err.OperationalError, match="denied"):
                cursor.execute(statement)


def test_a_recording_replayed_twice_gives_what_the_live_targets_hold(
    world: World, tmp_path: Path
) -> None:
    world.settle()
    recording = tmp_path / "lanes.zst"
    _tongbu(world, "record", str(recording))
    live = orjson.loads(_tongbu(world, "checksum", "--json"))["targets"]

    for _ in range(2):
        _tongbu(world, "replay", str(recording))
        report = orjson.loads((run_folder() / "reports" / "replay.json").read_bytes())
        assert report["targets"] == live


def test_a_changed_mapping_is_tried_on_a_recording_without_touching_what_is_live(
    world: World, tmp_path: Path
) -> None:
    recording, changed = tmp_path / "lanes.zst", tmp_path / "declarations"
    _tongbu(world, "record", str(recording))
    for folder in ("mappings", "rules"):
        shutil.copytree(ROOT / "streams" / folder, changed / folder)
    mapping = changed / "mappings" / "u8" / "customer.yaml"
    mapping.write_text(
        mapping.read_text(encoding="utf-8").replace("phone: cCusPhone", "phone: {const: hidden}"),
        encoding="utf-8",
    )
    live = orjson.loads(_tongbu(world, "checksum", "--json"))["targets"]

    _tongbu(world, "replay", str(recording), "--declarations", str(changed))

    report = orjson.loads((run_folder() / "reports" / "replay.json").read_bytes())
    assert report["targets"]["warehouse"]["checksum"] != live["warehouse"]["checksum"]
    assert report["targets"]["warehouse"]["rows"] == live["warehouse"]["rows"]
    assert orjson.loads(_tongbu(world, "checksum", "--json"))["targets"] == live


def _start_tongbu(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tongbu.cli", *arguments]
    environment = {**world.environment, "TONGBU_INSTANCE": world.instance.name}
    return subprocess.Popen(command, env=environment)


def _run(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tongbu.cli", *arguments]
    environment = {**world.environment, "TONGBU_INSTANCE": world.instance.name}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def _tongbu(world: World, *arguments: str) -> str:
    done = _run(world, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
