"""`tongbu doctor`: what is wrong at the sources, or soon will be, and what to do."""

from __future__ import annotations

from dataclasses import asdict

import orjson
import typer

from tongbu import answers
from tongbu.deploy.commands import JsonOption, NamespaceOption, deployment
from tongbu.stack.commands import InstanceName

_STYLES = {"ok": "green", "warning": "yellow", "alarm": "red"}


def doctor(
    instance: InstanceName = "default", namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """
    Look at every source: log settings, slot or binlog, publication, heartbeat, and whether anything was lost.

    It reads as the capture user and writes nothing. Exit code 1 when there is an alarm.
    """
    from tongbu.sources import inspection

    findings = inspection.inspect(deployment(instance, namespace))
    if as_json:
        typer.echo(orjson.dumps([asdict(each) for each in findings]).decode())
    else:
        console = answers.console()
        for each in findings:
            mark = f"[{_STYLES[each.level]}]{each.level:<8}[/]"
            console.print(f"{mark} {each.source:<8} {each.check:<17} {each.what}", highlight=False)
            if each.remedy:
                console.print(f"{'':<9}{each.remedy}", style="dim", highlight=False)
    if any(each.level == "alarm" for each in findings):
        raise typer.Exit(1)
