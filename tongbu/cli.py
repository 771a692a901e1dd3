"""The operator's command line: one line per command, each implemented in the room it belongs to."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import structlog
import typer
from rich.console import Console

from schemas.errors import TongbuError
from tongbu import commands, dlq, doctor, run
from tongbu.deploy import commands as deploy
from tongbu.drift import drift
from tongbu.mirror import mirror
from tongbu.recapture import recapture
from tongbu.resync import resync
from tongbu.snapshot import snapshot
from tongbu.stack import commands as stack
from tongbu.tail import tail
from tongbu.world import commands as world

app = typer.Typer(
    name="tongbu",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep OA, ERP and other systems in step, as it happens. `make demo` shows all of it.",
)
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("env")(stack.env)
app.command("load")(world.load)
app.command("plan")(deploy.plan)
app.command("apply")(deploy.apply)
app.command("republish")(deploy.republish)
app.command("incarnation")(deploy.incarnation)
app.command("mirror")(mirror)
app.command("resync")(resync)
app.command("doctor")(doctor.doctor)
app.command("drift")(drift)
app.command("recapture")(recapture)
app.command("snapshot")(snapshot)
app.command("tail")(tail)
app.command("reconcile")(commands.reconcile)
app.command("checksum")(commands.checksum)
app.command("record")(commands.record)
app.command("replay")(commands.replay)
app.command("demo")(commands.demo)
app.add_typer(dlq.app, name="dlq")
app.add_typer(run.app, name="run")


def main() -> None:
    """Run the command line; a user's mistake or a missing service ends in one message, never a traceback."""
    # A terminal in GBK has not every character that a record has.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        app()
    except TongbuError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
