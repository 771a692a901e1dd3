"""Withheld: marks of canonical ids whose current state can't be published, each with its dead letter (invariant I9)."""

from __future__ import annotations

from collections.abc import Iterator

from streams.errors import RecordError
from streams.in_force import EntityPlan
from streams.records import Letter
from streams.seal import Seal
from streams.spool import Spool
from streams.stages.encode import Message, Moment
from streams.stages.image import Store
from streams.stages.mirror import MirrorPlan
from streams.stages.publish import QUARANTINED

Published = EntityPlan | MirrorPlan

#: Prefix of the marks in the state.
WITHHELD = b"wit\0"
#: A message names so many withheld ids at most: all of a giant's would not fit into one record. Letters name every one.
NAMED = 10_000


class Marks:
    """The marks in a lane's state; `count` is how many there are: nearly always none, and then nobody has to look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = sum(1 for _ in store.iterate(WITHHELD))

    def get(self, key: bytes) -> list[str] | None:
        """Give the mark of an id (letter, stage and code of the error), or None."""
        mark: list[str] | None = self._store.get(key) if self.count else None
        return mark

    def set(self, key: bytes, mark: list[str]) -> None:
        """Mark an id that has no mark."""
        self._store.put(key, mark)
        self.count += 1

    def remove(self, key: bytes) -> None:
        """Take the mark of an id away."""
        self._store.put(key, None)
        self.count -= 1

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """Give the keys under a prefix that have a mark."""
        for key, _ in self._store.iterate(prefix):
            yield key


class Withheld:
    """
    Sets and clears the marks at one lane offset; what happens to them is added to `message` and `letters`.

    Nothing queues behind a mark: a later state of the id is simply tried again.
    """

    def __init__(
        self, moment: Moment, marks: Marks, seal: Seal, message: Message, letters: Spool[Letter]
    ) -> None:
        self._moment, self._marks, self._seal = moment, marks, seal
        self._message, self._letters = message, letters
        self._prefix = f"{moment.record.topic}/0/{moment.record.offset}/"

    def withhold(self, plan: Published, id_: str, error: RecordError, original: bytes) -> bool:
        """
        Mark an id, and write its letter; `original` is sealed into it. Tell whether the id was not withheld before.

        One that waits for a quarantined table gets no second letter.
        """
        if len(self._message.withheld) < NAMED:
            self._message.name(plan.entity, id_, error.code)
        known = self.holds(plan, id_)
        if known and error.code == QUARANTINED:
            return False
        letter_id = f"{self._prefix}{plan.entity}/{id_}"
        self._supersede(plan, id_)
        self._marks.set(_key(plan, id_), [letter_id, error.stage, error.code])
        sealed = self._seal.seal(letter_id, original)
        self._letters.append(Letter(letter_id, "open", error, plan.entity, id_, sealed))
        return not known

    def ids(self, plan: Published) -> Iterator[str]:
        """Give the withheld ids of an entity or a mirrored table."""
        prefix = _key(plan, "")
        for key in self._marks.keys(prefix):
            yield key.removeprefix(prefix).decode()

    def holds(self, plan: Published, id_: str) -> bool:
        """Tell whether an id is withheld."""
        return self._marks.get(_key(plan, id_)) is not None

    def withholds_now(self, plan: Published, id_: str) -> bool:
        """Tell whether an id was withheld at this very lane offset."""
        mark = self._marks.get(_key(plan, id_))
        return mark is not None and mark[0].startswith(self._prefix)

    def release(self, plan: Published, id_: str) -> None:
        """Close the letter of an id that is no longer withheld by it; what only some bindings get leaves it to the others."""
        if not self._message.only_bindings:
            self._supersede(plan, id_)

    def _supersede(self, plan: Published, id_: str) -> None:
        self._close(plan, id_, "superseded", "a later state of the id was processed")

    def skip(self, plan: Published, id_: str) -> None:
        """Close the letter of an id that somebody gives up."""
        self._close(plan, id_, "skipped", "was given up; what was published before stays")

    def _close(self, plan: Published, id_: str, state: str, why: str) -> None:
        key = _key(plan, id_)
        mark = self._marks.get(key)
        if mark is not None:
            letter_id, stage, code = mark
            self._marks.remove(key)
            error = RecordError(stage, code, why)
            self._letters.append(Letter(letter_id, state, error, plan.entity, id_))


def _key(plan: Published, id_: str) -> bytes:
    return WITHHELD + f"{plan.entity}\0{id_}".encode()
