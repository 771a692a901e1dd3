"""Business that goes on through a run of harm: begun again whenever a database that died has ended it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping

from tongbu.instance import ROOT

_FOREVER = 10**6
_LOOK_SECONDS = 0.5


class Business(threading.Thread):
    """Plays both systems at a rate, in a process of its own. Use as a context manager."""

    def __init__(self, environment: Mapping[str, str], rate: float, seed: int) -> None:
        super().__init__(name="business", daemon=True)
        self.begun = 0
        self._environment, self._rate, self._seed = dict(environment), rate, seed
        self._ending = threading.Event()

    def __enter__(self) -> Business:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Play until the end."""
        while not self._ending.is_set():
            process = self._begin()
            while process.poll() is None and not self._ending.wait(_LOOK_SECONDS):
                pass
            process.terminate()
            process.wait()
            self._ending.wait(_LOOK_SECONDS)

    def _begin(self) -> subprocess.Popen[bytes]:
        self.begun += 1
        options = {"rate": self._rate, "seconds": _FOREVER, "seed": self._seed + self.begun}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", "tongbu.cli", "load", *arguments],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
