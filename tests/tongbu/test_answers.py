"""What reads a command's answer without a terminal gets whole lines."""

from __future__ import annotations

import subprocess
import sys

_LONG = 400


def test_lines_and_tables_are_not_cut_where_no_terminal_reads_them() -> None:
    code = (
        "from rich.table import Table; from tongbu import answers; console = answers.console(); "
        f"table = Table(); table.add_row('x' * {_LONG}); console.print('word ' * {_LONG // 5}); console.print(table)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert "word " * (_LONG // 5) in told
    assert "x" * _LONG in told
