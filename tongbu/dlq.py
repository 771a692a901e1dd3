"""`tongbu dlq list|show|retry|skip|resume`: records that could not be processed, and what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from cryptography.exceptions import InvalidTag
from rich.table import Table
from rich.text import Text

from schemas.control import Resume, Retry, Skip
from schemas.errors import TongbuError
from streams.seal import KEY_FILE, Seal
from tongbu import answers, dead_letters
from tongbu.deploy import lanes
from tongbu.deploy.commands import deployment
from tongbu.deploy.deployment import Deployment
from tongbu.stack.commands import InstanceName

#: As many ids are asked for by one control record: the lane takes other records in between.
_AT_ONCE = 1000

app = typer.Typer(
    no_args_is_help=True, help="Records that could not be processed, by canonical id."
)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Canonical ids, e.g. erp:SO20260001; several are possible."),
]
Entity = Annotated[str | None, typer.Option(help="All letters of this entity.")]
All = Annotated[bool, typer.Option("--all", help="All open letters.")]


@app.command("list")
def list_(instance: InstanceName = "default", entity: Entity = None, as_json: Json = False) -> None:
    """Show the open letters, oldest first: which id is withheld or table quarantined, since when, and why."""
    found = _letters(deployment(instance), entity)
    if as_json:
        typer.echo(orjson.dumps([_plain(letter) for letter in found]).decode())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("since (UTC)", no_wrap=True)
    for name in ("entity", "withheld", "stage", "code", "letter"):
        table.add_column(name, overflow="fold")  # ids are there to be copied
    for letter in found:
        table.add_row(
            _time(letter["at"])[:19], letter["entity"], Text(letter["entity_id"] or dead_letters.table_of(letter) or ""),
            letter["stage"], letter["code"], letter["id"],
        )  # fmt: skip
    answers.console().print(table if found else "no open letters")


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="A letter's id, or a withheld canonical id.")],
    unseal: Annotated[
        bool, typer.Option("--unseal", help="Also the original, which may hold personal data.")
    ] = False,
    instance: InstanceName = "default",
) -> None:
    """Show all that is known of a letter, as JSON."""
    subject = deployment(instance)
    letters = _letters(subject, None, originals=unseal)
    found = [each for each in letters if letter in (each["id"], each["entity_id"])]
    if not found:
        raise TongbuError(f"no open letter `{letter}`", "`tongbu dlq list` shows them.")
    for each in found:
        shown = _plain(each)
        if unseal:
            shown["original"] = _original(subject, each)
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())


@app.command()
def retry(
    ids: Ids = None, entity: Entity = None, all_: All = False, instance: InstanceName = "default"
) -> None:
    """
    Map withheld ids again, after a fix: `tongbu dlq retry erp:SO1`, `tongbu dlq retry --entity sales_order`.

    What can be made now is published; what can't stays withheld, with a new letter. `tongbu status` counts what is
    withheld still. Ending this command (Ctrl-C) does no harm: run it again, it asks for what is withheld then.
    """
    _append(Retry, ids, entity, instance, everything=all_)


@app.command()
def skip(
    ids: Ids = None, entity: Entity = None, all_: All = False, instance: InstanceName = "default"
) -> None:
    """Give up the withheld state of ids: what targets hold of them stays, until their next change."""
    _append(Skip, ids, entity, instance, everything=all_)


@app.command()
def resume(
    source: Annotated[str, typer.Argument(help="The source, e.g. erp.")],
    table: Annotated[str, typer.Argument(help="The quarantined table, e.g. public.SO_SOMain.")],
    instance: InstanceName = "default",
) -> None:
    """
    Go on with a quarantined table, with the changes that were kept of it first.

    After a fix at the source. When mapping or columns are mended, `tongbu apply` does it by itself; a table that its
    mappings still can't use stays where it is.
    """
    subject = deployment(instance)
    open_ = [(each["source"], dead_letters.table_of(each)) for each in _letters(subject, None)]
    if (source, table) not in open_:
        raise TongbuError(f"not quarantined: {source} {table}", "`tongbu dlq list` shows what is.")
    lanes.append(subject, Resume(source=source, table=table))
    typer.echo(f"{source}: {table} asked for")


def _append(
    kind: type[Retry | Skip],
    ids: list[str] | None,
    entity: str | None,
    instance: str,
    *,
    everything: bool,
) -> None:
    if not ids and entity is None and not everything:
        raise TongbuError("which letters?", "Name ids, or give --entity NAME, or --all.")
    subject, wanted = deployment(instance), {*(ids or ())}
    chosen: dict[tuple[str, str], list[str]] = {}
    for letter in _letters(subject, entity):
        if letter["entity_id"] is not None and (not wanted or letter["entity_id"] in wanted):
            chosen.setdefault((letter["source"], letter["entity"]), []).append(letter["entity_id"])
    if unknown := wanted - {id_ for found in chosen.values() for id_ in found}:
        raise TongbuError(f"not withheld: {min(unknown)}", "`tongbu dlq list` shows what is.")
    for (source, name), withheld in chosen.items():
        some = (withheld[at : at + _AT_ONCE] for at in range(0, len(withheld), _AT_ONCE))
        records = [kind(source=source, entity=name, ids=tuple(each)) for each in some]
        lanes.append(subject, *records)
        typer.echo(f"{source}: {name}: {len(withheld):,} asked for")
    if not chosen:
        typer.echo("no open letters with an id")


def _letters(
    subject: Deployment, entity: str | None, *, originals: bool = False
) -> list[dict[str, Any]]:
    found = dead_letters.read(subject.bootstrap, subject.registry, originals=originals)
    known = {*subject.catalog.entities, *(letter["entity"] for letter in found)}
    if entity is not None and entity not in known:
        raise TongbuError(
            f"there is no entity `{entity}`",
            f"Known: {', '.join(sorted(subject.catalog.entities))}.",
        )
    return [letter for letter in found if entity in (None, letter["entity"])]


def _plain(letter: dict[str, Any]) -> dict[str, Any]:
    """Give a letter without its original."""
    return {
        name: _time(value) if name == "at" else value
        for name, value in letter.items()
        if name != "sealed"
    }


def _original(subject: Deployment, letter: dict[str, Any]) -> str | None:
    if letter["sealed"] is None:
        return None
    file = Path(subject.environment["TONGBU_DATA"]) / KEY_FILE
    if not file.exists():
        raise TongbuError(f"there is no key file {file}", "Without it originals stay sealed.")
    try:
        return Seal(file).open(letter["id"], letter["sealed"]).decode(errors="replace")
    except InvalidTag as error:
        raise TongbuError(
            f"letter {letter['id']} was sealed with another key",
            f"{file} has to be the key file of the processor that wrote it.",
        ) from error


def _time(at: datetime | int) -> str:
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at / 1e6, UTC)
    return moment.isoformat(timespec="seconds")
