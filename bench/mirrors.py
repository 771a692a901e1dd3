"""
Many tables of an unknown ERP, mirrored by one command: how long it takes until every row is there, and keeps coming.

The tables have rows before, and get more while the command works. It first says what the DBA has to grant; that is
run as it stands.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import psycopg
from rich.console import Console

from bench.system import wait
from bench.whole_stack import whole_stack
from schemas.declarations import RelationalBinding
from schemas.errors import TongbuError
from sink_writers import bindings, targets
from tongbu.instance import ROOT, Instance
from tongbu.mirror_parity import compare, source_side, target_side
from tongbu.parity import Parity

SCHEMA, _TARGET = "unknown_erp", "warehouse"
_TABLE = (
    "id int PRIMARY KEY, name text, amount numeric(12,2), note varchar(40), changed_at timestamptz"
)
_ROWS = """INSERT INTO {table} SELECT n, '行' || n, n * 1.5, CASE n % 3 WHEN 0 THEN 'third' END, now()
  FROM generate_series({first}, {last}) n"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many tables, and rows of each."""

    tables: int
    rows: int


def perform(instance: Instance, plan: Plan, console: Console, *, keep: bool) -> dict[str, Any]:
    """Mirror the tables on a whole stack of its own; give seconds and counts. Raise TongbuError where a row differs."""
    with whole_stack(instance, console, keep=keep), TemporaryDirectory() as folder:
        return measure(instance, plan, Path(folder), console.print)


def measure(
    instance: Instance, plan: Plan, declarations: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The same on a stack that runs already; its declarations are copied to a folder of its own."""
    for each in ("mappings", "rules"):
        (declarations / each).symlink_to(ROOT / "streams" / each)
    names = [f"{SCHEMA}.t{number:03d}" for number in range(plan.tables)]
    with (
        psycopg.connect(os.environ["ERP_DSN"], autocommit=True) as erp,
        # A pipe that nobody reads meanwhile would stop the command once it is full.
        TemporaryFile("w+") as out,
    ):
        erp.execute(f"CREATE SCHEMA {SCHEMA}")
        for name in names:
            erp.execute(f"CREATE TABLE {name} ({_TABLE})")
            erp.execute(_ROWS.format(table=name, first=1, last=plan.rows))
        script = _mirror(instance, declarations, refused=plan.tables)
        for statement in script:
            erp.execute(statement)
        began = time.monotonic()
        command = _start(instance, declarations, out)
        written = 0
        while command.poll() is None:  # business goes on meanwhile
            name, last = names[written % len(names)], plan.rows + 1 + written // len(names)
            erp.execute(_ROWS.format(table=name, first=last, last=last))
            erp.execute(f"UPDATE {name} SET amount = amount + 1 WHERE id = 1")
            written += 1
            time.sleep(0.02)
        out.seek(0)
        said = out.read()
        if command.returncode:
            raise TongbuError("tongbu mirror failed", said[-2000:])
        declared = time.monotonic() - began
        for name in names:
            erp.execute(f"DELETE FROM {name} WHERE id = 2")
    tell(said.strip().splitlines()[-1])
    binding = bindings.load(_TARGET)
    assert isinstance(binding, RelationalBinding)
    found = Parity()

    def equal() -> bool:
        nonlocal found
        found = _compared(binding, names)
        return not found.mismatches

    wait("every mirrored row is equal", equal, 300.0)
    report = {
        "tables": plan.tables,
        "rows": found.rows,
        "written_meanwhile": written,
        "grants": len(script),
        "command_s": round(declared, 1),
        "equal_after_s": round(time.monotonic() - began, 1),
    }
    tell(str(report))
    return report


def _command(instance: Instance, declarations: Path) -> list[str]:
    arguments = ["mirror", "erp", f"{SCHEMA}.*", "--to", _TARGET, "--prefix", "unknown_"]
    own = ["--instance", instance.name, "--declarations", str(declarations)]
    return [sys.executable, "-m", "tongbu.cli", *arguments, *own]


def _start(
    instance: Instance, declarations: Path, out: IO[str] | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(instance, declarations),
        env=os.environ | {"COLUMNS": "200"},
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _mirror(instance: Instance, declarations: Path, *, refused: int) -> list[str]:
    """Run the command once before the DBA has done anything; give the statements that it asks for."""
    command = _start(instance, declarations)
    said = command.communicate()[0]
    if f"{refused} refused" not in said:
        raise TongbuError("tongbu mirror should have asked for grants", said[-2000:])
    return [line.strip() for line in said.splitlines() if line.strip().endswith(";")]


def _compared(binding: RelationalBinding, names: Sequence[str]) -> Parity:
    parity, there = Parity(), targets.mirrored(binding)
    dialect = targets.dialect(binding)
    for name in names:
        if name not in there:
            parity.mismatches += 1
            break
        source = source_side("postgresql", name, os.environ["ERP_DSN"])
        target = target_side(binding.kind, there[name].name, dialect)
        compare(there[name], source, target, set(), parity)
        if parity.mismatches:
            break
    return parity
