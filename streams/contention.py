"""
Contention: root rows that have no canonical id, each with its dead letter.

Another living row has their natural key, or none of its columns has a value. They publish nothing. The state knows them
by entity, natural key and row, so that one takes an id over when the row that has it goes.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from streams.errors import RecordError
from streams.in_force import EntityPlan
from streams.records import Letter, Row
from streams.seal import Seal
from streams.spool import Spool
from streams.stages.encode import Moment
from streams.stages.image import Store

#: Prefix of the contenders in the state.
_CONTENDERS = b"con\0"


class Contenders:
    """The contenders in a lane's state; `numbers` says how many each id has: nearly always there are none, and then nobody has to look."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.numbers: dict[bytes, int] = {}
        for place, _ in store.iterate(_CONTENDERS):
            self._count(place, 1)

    def put(self, place: bytes, letter: str | None) -> None:
        """Note the letter of a contender, or that it is none any more (None)."""
        self.store.put(place, letter)
        self._count(place, -1 if letter is None else 1)

    def _count(self, place: bytes, more: int) -> None:
        prefix = place[: place.rindex(b"\0") + 1]
        number = self.numbers.pop(prefix, 0) + more
        if number:
            self.numbers[prefix] = number


class Contention:
    """Finds and forgets contenders at one lane offset; their letters are added to `letters`."""

    def __init__(
        self, moment: Moment, contenders: Contenders, seal: Seal, letters: Spool[Letter]
    ) -> None:
        self._moment, self._contenders = moment, contenders
        self._seal, self._letters = seal, letters
        self._entered = 0

    def holds(self, plan: EntityPlan, natural_key: str, root_key: bytes) -> bool:
        """Tell whether a row is a contender."""
        if not self._contenders.numbers:
            return False
        return self._contenders.store.get(_prefix(plan, natural_key) + root_key) is not None

    def first(self, plan: EntityPlan, natural_key: str) -> bytes | None:
        """Give the root key of a contender of an id, or None."""
        if not natural_key or not self._contenders.numbers:
            return None
        prefix = _prefix(plan, natural_key)
        if prefix not in self._contenders.numbers:
            return None
        ((place, _),) = self._contenders.store.scan(prefix, limit=1)
        return place.removeprefix(prefix)

    def enter(self, plan: EntityPlan, natural_key: str, root_key: bytes, root: Row) -> None:
        """Note a contender, and write its letter; the row is sealed into it."""
        self._entered += 1
        record, id_ = self._moment.record, self._id(natural_key)
        letter = f"{record.topic}/0/{record.offset}/{self._entered}/{plan.entity}/{id_ or ''}"
        self._contenders.put(_prefix(plan, natural_key) + root_key, letter)
        sealed = self._seal.seal(letter, orjson.dumps(root))
        error = _error(natural_key, _why(plan, natural_key))
        self._letters.append(Letter(letter, "open", error, plan.entity, id_, sealed))

    def leave(self, plan: EntityPlan, natural_key: str, root_key: bytes) -> bool:
        """Forget a row and close its letter; tell whether it was a contender."""
        if not self.holds(plan, natural_key, root_key):
            return False
        self._forget(plan, natural_key, _prefix(plan, natural_key) + root_key)
        return True

    def clear(self, plan: EntityPlan) -> Iterator[None]:
        """Forget all contenders of an entity, which is indexed anew; pauses after each."""
        for place, _ in self._contenders.store.iterate(_all_of(plan)):
            self._forget(plan, _natural_key(plan, place), place)
            yield None

    def ids(self, plan: EntityPlan) -> list[str]:
        """Give the ids of an entity that have contenders."""
        prefixes = sorted(self._contenders.numbers)
        found = [each for each in prefixes if each.startswith(_all_of(plan))]
        ids = [self._id(_natural_key(plan, each)) for each in found]
        return [id_ for id_ in ids if id_ is not None]

    def _forget(self, plan: EntityPlan, natural_key: str, place: bytes) -> None:
        letter: str = self._contenders.store.get(place)
        self._contenders.put(place, None)
        error = _error(natural_key, "the row was changed or deleted, or has the id by now")
        id_ = self._id(natural_key)
        self._letters.append(Letter(letter, "superseded", error, plan.entity, id_))

    def _id(self, natural_key: str) -> str | None:
        return f"{self._moment.source}:{natural_key}" if natural_key else None


def _error(natural_key: str, why: str) -> RecordError:
    return RecordError("publish", "duplicate-id" if natural_key else "no-id", why)


def _why(plan: EntityPlan, natural_key: str) -> str:
    columns = ", ".join(f"`{name}`" for name in plan.declared.id_columns)
    if natural_key:
        return (
            f"another row of `{plan.root}` has the same {columns}, and so this id. This one is published when that one is "
            f"gone, or when one of both gets another {columns} at the source; or map the id from columns that are unique"
        )
    return (
        f"a row of `{plan.root}` without a value of {columns} has no canonical id. It is published when it gets one at the "
        "source; or leave such rows out by the mapping's `where`, or map the id from columns that have a value"
    )


def _all_of(plan: EntityPlan) -> bytes:
    return _CONTENDERS + f"{plan.entity}\0".encode()


def _prefix(plan: EntityPlan, natural_key: str) -> bytes:
    """Give where the contenders of an id are: its key is JSON, which holds no zero byte, so that none begins as another does."""
    return _all_of(plan) + orjson.dumps(natural_key) + b"\0"


def _natural_key(plan: EntityPlan, place: bytes) -> str:
    spelled, _, _ = place.removeprefix(_all_of(plan)).partition(b"\0")
    natural_key: str = orjson.loads(spelled)
    return natural_key
