"""What commands show of a reconciliation, and the reports they leave for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tongbu.reconcile import Report


def write_report(file: Path, content: dict[str, Any]) -> None:
    """Write a report for programs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def show_parity(report: Report, console: Console) -> None:
    """Print what came of a reconciliation."""
    table = Table("target", "rows", "mismatches", box=None, header_style="bold")
    for name, parity in report.targets.items():
        style = "red" if parity.mismatches else "green"
        table.add_row(name, f"{parity.rows:,}", f"[{style}]{parity.mismatches:,}[/]")
    console.print(table)
    for name, parity in report.targets.items():
        for each in parity.first:
            key = ", ".join(map(str, each.key))
            columns = f": {', '.join(each.columns)}" if each.columns else ""
            console.print(f"  {name} {each.table} \\[{key}] {each.what}{columns}", highlight=False)
    for entity, ids in report.set_apart.items():
        for id_, why in ids.items():
            console.print(f"  set apart: {entity} {id_} ({why})", highlight=False)
    for entity, fields in report.late.items():
        note = f"as of the last change, not compared: {entity} {', '.join(fields)}"
        console.print(f"[dim]{note}[/]", highlight=False)
    for target, tables in report.undeclared.items():
        note = f"mirrored to {target}, but not declared here, so not compared: {', '.join(tables)}"
        console.print(f"[yellow]{note}[/]", highlight=False)
        console.print(
            "  `tongbu reconcile --declarations DIR` takes the declarations of another folder."
        )
