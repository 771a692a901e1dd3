"""
Checkpoints: copies of a lane's state in another place, for the loss of the disk and for take-over by another worker.

A checkpoint holds its own input position; with the lane log from there on it is the whole state. So the lane log's
retention has to be longer than the age of the oldest checkpoint that is kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rocksdict import Checkpoint

from streams.state import Standing, State, standing, stored

_DIGITS = 20


def put_away(folder: Path) -> None:
    """Remove a state that is not open, all of it at once: half of one can't be opened."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone)


class Checkpoints:
    """The checkpoints of one lane in a folder that several workers may share; the last `keep` are kept."""

    def __init__(self, folder: Path, topic: str, keep: int) -> None:
        self._folder, self._keep = folder / topic, keep

    def make(self, state: State, position: int) -> Path:
        """
        Copy a state that is in use; it takes no writes to a halt, and may run in another thread.

        `position` names the checkpoint; the state in it is at least as far. One that is there already is left as it is.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._put_others_away(state.lane)
        if self._place(position).exists():
            return self._place(position)
        linked = state.folder.with_name(f"{state.folder.name}.checkpoint")
        fresh = self._folder / f"{state.folder.parent.parent.parent.name}.new"
        final = self._place(position)
        for left in (linked, fresh):
            shutil.rmtree(left, ignore_errors=True)
        Checkpoint(state.database).create_checkpoint(str(linked))
        shutil.copytree(linked, fresh)  # the folder may be another disk's
        shutil.rmtree(linked)
        if not final.exists():
            fresh.rename(final)
        for old in self._all()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def positions(self) -> list[int]:
        """Give the positions of the checkpoints, oldest first."""
        return [int(each.name) for each in self._all()]

    def standing(self, position: int) -> Standing:
        """Tell where a checkpoint stands: at its position or, by what was written while it was made, beyond."""
        return standing(self._place(position))

    def stored(self, position: int, *keys: bytes) -> list[Any]:
        """Give what a checkpoint holds under some keys; None where there is nothing."""
        return stored(self._place(position), *keys)

    def restore(self, position: int, folder: Path) -> None:
        """Put a checkpoint in place of a state that is not open."""
        fresh = folder.with_name(f"{folder.name}.restored")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(self._place(position), fresh)
        put_away(folder)
        fresh.rename(folder)

    def _put_others_away(self, lane: dict[str, Any] | None) -> None:
        """Remove what was made from an earlier topic of this name: its positions say nothing beside those of the present one."""
        if lane is None:
            return
        for each in self._all():
            if _topic_id(each) not in (None, lane["topic_id"]):
                put_away(each)

    def _place(self, position: int) -> Path:
        return self._folder / f"{position:0{_DIGITS}d}"

    def _all(self) -> list[Path]:
        if not self._folder.exists():
            return []
        return sorted(each for each in self._folder.iterdir() if each.name.isdigit())


def _topic_id(checkpoint: Path) -> str | None:
    """Tell of which topic a checkpoint is; None where it says nothing, or can't be opened."""
    try:
        lane = standing(checkpoint).lane
    except Exception:  # RocksDB has no closer one
        return None
    return lane["topic_id"] if lane is not None else None
