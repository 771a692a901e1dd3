"""Bindings as shipped in sink_writers/bindings, and the environment variables that their values name."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from string import Template

from schemas.declarations import Binding, RelationalBinding, load_bindings
from schemas.errors import TongbuError

#: Where the shipped bindings are.
FOLDER = Path(str(files("sink_writers"))) / "bindings"
#: What a binding reads that wants transactions.
TRANSACTIONS = "canonical.transactions.v1"


def load(name: str, folder: Path = FOLDER) -> Binding:
    """Give a binding by name; raise TongbuError where there is none, DeclarationError where one is malformed."""
    found = {declared.value.binding: declared.value for declared in load_bindings(folder)}
    if name not in found:
        raise TongbuError(
            f"there is no binding {name}", f"Known: {', '.join(sorted(found))} (in {folder.name}/)."
        )
    return found[name]


def reads(binding: Binding) -> dict[str, str]:
    """Give the topics that a binding reads, each with the consumer group that reads it."""
    name = f"sink-{binding.binding}"
    if isinstance(binding, RelationalBinding) and binding.reads == "entities":
        return {
            f"canonical.{entity}.v{wanted.major}": f"{name}-{entity}"
            for entity, wanted in binding.entities.items()
        }
    return {TRANSACTIONS: name}


def resolve(text: str) -> str:
    """Replace `${NAME}` by the environment's value; raise TongbuError where it is not set."""
    try:
        return Template(text).substitute(os.environ)
    except KeyError as error:
        raise TongbuError(
            f"the environment has no {error.args[0]}",
            "Start it through `tongbu up`, or load what `tongbu env` prints.",
        ) from error
