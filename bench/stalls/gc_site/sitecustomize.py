"""Read at the start of a process that is watched: notes each long pause of Python's garbage collector in TONGBU_PAUSES."""

import gc
import os
import time
from pathlib import Path

_SECONDS = 0.003
_file = (Path(os.environ["TONGBU_PAUSES"]) / f"{os.environ['TONGBU_PAUSES_OF']}.gc").open("a")
_began = 0.0


def _note(phase: str, _: dict[str, int]) -> None:
    global _began
    now = time.time()
    if phase == "start":
        _began = now
    elif now - _began > _SECONDS:
        _file.write(f"{_began:.6f} {now:.6f}\n")
        _file.flush()


gc.callbacks.append(_note)
