"""The runner: waits while a service is missing, keeps the order, goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from schemas.catalog import MIRROR_TABLE
from schemas.codec import Decoder, encode
from schemas.errors import ServiceUnavailable, TongbuError
from sink_writers import pulse
from sink_writers.binding_tables import tables
from sink_writers.dialects.postgresql import sql_type
from sink_writers.messages import Raw, Record
from sink_writers.pulse import Pulse
from sink_writers.runner import Runner
from sink_writers.sink import Place, TryLater
from sink_writers.sinks.memory import MemorySink
from sink_writers.stage_log import StageLog


class ListLog:
    """A log in a list; when it is read to its end, the runner is stopped."""

    def __init__(self, raws: list[Raw]) -> None:
        self.given: set[int] = {0}
        self.raws = raws
        self.at: dict[int, int] = {}
        self.starts: list[dict[int, int]] = []
        self.is_away = False
        self.committed: dict[int, int] = {}
        self.waited: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.at_end: Callable[[], None] = lambda: None

    def start(self, offsets):
        self.starts.append(dict(offsets))
        if self.is_away:
            raise ServiceUnavailable("Kafka is away")
        self.at = dict(offsets)
        self.given = set()

    def read(self, seconds):
        found = [
            raw
            for raw in self.raws
            if self.owns(raw.partition) and raw.offset >= self.at[raw.partition]
        ]
        if not found:
            self.at_end()
        for raw in found:
            self.at[raw.partition] = raw.offset + 1
        return found

    def idle(self, seconds, still):
        self.waited.append(seconds)
        self.meanwhile()

    def owns(self, partition):
        return partition in self.at

    def applied(self, partition, next_offset):
        self.committed[partition] = next_offset


class Failing(MemorySink):
    """Raises what it is told, then works."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.errors: list[Exception] = []
        self.claims, self.is_away = 0, False

    def claim(self, place):
        self.claims += 1
        if self.is_away:
            raise TryLater("the target is away")
        return super().claim(place)

    def apply(self, *args):
        if self.errors:
            raise self.errors.pop(0)
        return super().apply(*args)


class Scene:
    def __init__(self, world, binding, folder) -> None:
        self.world, self.binding, self.folder = world, binding, folder
        self.sink = Failing(tables(binding, world.catalog, sql_type), world.decoder)
        self.raws: list[Raw] = []
        self.decoder: Decoder = world.decoder

    def put(self, *records, source="erp", kind="transaction", only=()) -> None:
        self.raws.append(
            self.world.raw(
                len(self.raws),
                records[0].version,
                records=records,
                source=source,
                kind=kind,
                only_bindings=list(only),
            )
        )

    def run(self, prepare: Callable[[ListLog], None] = lambda log: None) -> ListLog:
        log = ListLog(self.raws)
        prepare(log)
        stages = StageLog(self.folder, self.binding.binding)
        beats = Pulse(self.folder, self.binding.binding, "t")
        runner = Runner(
            self.binding,
            log,
            self.sink,
            self.decoder,
            lambda part: Place("b", "t", "id", part),
            stages,
            beats,
        )
        log.at_end = runner.stop
        runner.run()
        stages.close()
        return log

    def stages(self):
        return [
            orjson.loads(line)
            for line in (self.folder / "stages/b.jsonl").read_bytes().splitlines()
        ]

    @property
    def customers(self):
        return {key: row["version"] for (key,), row in self.sink.tables["customer"].items()}


@pytest.fixture
def scene(world, binding, tmp_path):
    return Scene(world, binding, tmp_path)


def test_everything_there_goes_into_one_target_transaction(scene, world):
    scene.put(world.customer("c1", 1))
    scene.put(world.customer("c2", 2))
    log = scene.run()

    assert scene.customers == {"c1": 1, "c2": 2}
    assert log.committed == {0: 2}
    stages = scene.stages()
    assert [(each["transaction"], each["records"], each["target_tx"]) for each in stages] == [
        ("1", 1, "1"),
        ("2", 1, "1"),
    ]
    assert stages[0]["captured"] == 1
    assert stages[0]["applied"] >= stages[0]["consumed"]


def test_a_second_start_goes_on_from_the_target_position(scene, world):
    scene.put(world.customer("c1", 1))
    scene.run()
    scene.put(world.customer("c2", 2))
    scene.run()

    assert scene.customers == {"c1": 1, "c2": 2}
    assert len(scene.stages()) == 2


def test_what_passes_by_itself_is_tried_again_in_order(scene, world):
    scene.sink.errors = [ServiceUnavailable("down"), TryLater("busy", seconds=9.0)]
    scene.put(world.customer("c1", 1))
    log = scene.run()

    assert scene.customers == {"c1": 1}
    assert log.waited == [0.1, 9.0]


def test_what_is_waited_for_is_told_while_it_lasts_and_not_of_a_moment(scene, world, monkeypatch):
    told = []
    scene.put(world.customer("c1", 1))
    scene.sink.errors = [
        TryLater("the table is away", "`tongbu apply` makes it."),
        TryLater("busy", "Look at its locks."),
    ]

    def look():
        told.append(pulse.trouble(scene.folder, "b"))
        monkeypatch.setattr(pulse, "_MOMENT_S", -1)

    scene.run(lambda log: setattr(log, "meanwhile", look))
    assert told == [("", ""), ("waiting: busy", "Look at its locks.")]
    assert pulse.trouble(scene.folder, "b") == ("", "")


def test_a_partition_that_was_taken_away_while_the_target_was_away_is_not_claimed(scene):
    scene.sink.is_away = True

    def prepare(log):
        def taken_away():
            log.given = set()
            scene.sink.is_away = False

        log.meanwhile = taken_away

    log = scene.run(prepare)

    assert scene.sink.claims == 1
    assert log.starts == []


def test_what_was_taken_away_while_kafka_was_away_is_not_read_with_what_was_given_since(
    scene, world
):
    scene.put(world.customer("c1", 1))

    def prepare(log):
        log.is_away = True

        def given_another():
            log.given, log.is_away = {1}, False

        log.meanwhile = given_another

    log = scene.run(prepare)

    assert log.starts == [{0: 0}, {1: 0}]
    assert scene.customers == {}


def test_a_registry_that_is_down_is_waited_for(scene, world):
    troubles = [ServiceUnavailable("the registry is down")]

    def resolve(schema_id):
        if troubles:
            raise troubles.pop()
        return world.transaction_schema.schema

    scene.decoder = Decoder(resolve)
    scene.put(world.customer("c1", 1))
    scene.run()

    assert scene.customers == {"c1": 1}


def test_a_registry_that_is_down_when_a_mirrored_table_is_described_is_waited_for(scene, world):
    schemas = {97: world.mirror_schemas[MIRROR_TABLE].schema, 99: world.transaction_schema.schema}
    troubles = [ServiceUnavailable("the registry is down")]

    def resolve(schema_id):
        if schema_id == 97 and troubles:
            raise troubles.pop()
        return schemas[schema_id]

    scene.decoder = Decoder(resolve)
    described = {"source": "erp", "table": "t", "database": "mariadb", "targets": {}}
    value = encode(
        97, world.mirror_schemas[MIRROR_TABLE].parsed, described | {"columns": [], "key": []}
    )
    scene.put(Record(MIRROR_TABLE, "t", "update", 1, value))
    scene.put(world.customer("c1", 2))
    scene.run()

    assert scene.customers == {"c1": 2}


def test_what_a_person_must_mend_stops_the_binding(scene, world):
    scene.sink.errors = [TongbuError("no privilege", "grant it")]
    scene.put(world.customer("c1", 1))

    with pytest.raises(TongbuError, match="no privilege"):
        scene.run()


def test_messages_for_others_are_passed(scene, world):
    scene.put(world.customer("c1", 1), source="oa")
    scene.put(world.customer("c2", 2), kind="republish", only=["other"])
    scene.put(world.customer("c3", 3), kind="republish", only=["b"])
    log = scene.run()

    assert scene.customers == {"c3": 3}
    assert log.committed == {0: 3}
    assert scene.stages() == []


def test_the_position_passes_foreign_messages_after_a_while(scene, world, monkeypatch):
    monkeypatch.setattr("sink_writers.runner._ADVANCE_S", -1.0)
    scene.put(world.customer("c1", 1), source="oa")
    log = scene.run()

    assert log.committed == {0: 1}
