"""The part of a reconciliation that is about mirrored tables: which there are, and what is set apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import orjson

from schemas.codec import Decoder
from schemas.declarations import RelationalBinding
from sink_writers import targets
from tongbu.deploy.deployment import Deployment
from tongbu.mirror_parity import Texts, source_side, target_side
from tongbu.mirror_parity import compare as compare_table
from tongbu.parity import Difference, Parity
from tongbu.progress import Steps

if TYPE_CHECKING:
    from tongbu.reconcile import Report


def compare(
    deployment: Deployment,
    bindings: Sequence[RelationalBinding],
    report: Report,
    steps: Steps,
    stored: Decoder,
) -> None:
    """
    Compare each declared table of each mirror; those that the target does not have yet are told as missing.

    `stored` reads the records that targets have set aside.
    """
    known = {binding.binding: binding for binding in bindings}
    common = {name: frozenset(ids) for name, ids in report.set_apart.items()}
    for source, declared in deployment.sources.items():
        dsn = deployment.environment[f"{source.upper()}_DSN"]
        for mirror in deployment.mirrors_of(source):
            binding = known.get(mirror.binding)
            if binding is None:
                continue
            parity = report.targets.setdefault(binding.binding, Parity())
            there, apart = targets.mirrored(binding), targets.set_aside(binding, stored)
            with steps.step(f"comparing mirrors {mirror.mirror}", len(mirror.tables)) as advance:
                for name, called in mirror.tables.items():
                    advance(1)
                    if name not in there:
                        parity.add(Difference(called, (), "not there yet"))
                        continue
                    own = apart.get(called, {})
                    for id_, reason in own.items():
                        report.apart(name, id_, f"set aside by {binding.binding}: {reason}")
                    late = compare_table(
                        there[name],
                        source_side(declared.database, name, dsn),
                        target_side(binding.kind, called, targets.dialect(binding)),
                        _keys(source, name, common.get(name, frozenset()) | own.keys()),
                        parity,
                    )
                    if late:
                        report.late[name] = late
    mirrors = [each.value for each in deployment.mirrors]
    for name, binding in known.items():
        named = {table for each in mirrors if each.binding == name for table in each.tables}
        if undeclared := sorted(targets.mirrored(binding).keys() - named):
            report.undeclared[name] = undeclared


def _keys(source: str, table: str, ids: Iterable[str]) -> set[Texts]:
    """Give the keys that ids stand for: `<source>:<table><key as JSON>`."""
    prefix = f"{source}:{table}"
    keys = [orjson.loads(id_.removeprefix(prefix)) for id_ in ids if id_.startswith(prefix + "[")]
    return {tuple(map(str, key)) for key in keys}
