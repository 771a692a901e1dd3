"""
Clocks that can be set for one process of a stack.

Servers get theirs by libfaketime: the system's, or Debian's package unpacked into the cache. Our own processes get
theirs by a `sitecustomize` of their own (librdkafka stands still under libfaketime). Waiting times stay true in both.
A JVM's clock is left alone: under libfaketime 0.9.10 the broker took 63 s to start, and its controller seconds per event.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tongbu.stack.artifacts import cache_folder

SERVERS = ("postgres", "mariadb")
JVMS = ("kafka", "connect")
OWN = ("processor", "sink-warehouse", "sink-oa", "sink-order-events")
#: The one for programs with threads.
_LIBRARY = "x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
#: How long a process may go on with what it has read of its clock.
SEEN_SECONDS = 1.0


class Clocks:
    """
    The clocks of the processes named; each reads a file, which every user of the machine may read.

    Use as a context manager: the files end with it, unless the processes stay up (`keep`).
    """

    def __init__(self, services: Collection[str], *, keep: bool = False) -> None:
        self._services, self._keep = services, keep
        self._library = (_find() or _fetch()) if set(services) & set(SERVERS) else None
        self._folder = Path(tempfile.mkdtemp(prefix="tongbu-clocks-"))
        self._folder.chmod(0o755)

    def __enter__(self) -> Clocks:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._keep:
            shutil.rmtree(self._folder)

    def missing(self, service: str) -> str:
        """Tell why a process's clock can't be set; "" where it can."""
        if service in JVMS:
            return "a JVM is too slow under libfaketime"
        if service in OWN or self._library:
            return ""
        return (
            "libfaketime is neither installed nor to be had (Debian: apt-get install libfaketime)"
        )

    def environment(self, service: str) -> dict[str, str]:
        """Give what makes a process look at its own clock."""
        if service not in self._services or self.missing(service):
            return {}
        self.set(service, 0)
        if service in OWN:
            site = Path(__file__).with_name("clock_site")
            return {"PYTHONPATH": str(site), "TONGBU_CLOCK": str(self._file(service))}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(service)),
            "FAKETIME_CACHE_DURATION": str(round(SEEN_SECONDS)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, service: str, seconds: int) -> None:
        """Let a process's clock be so many seconds ahead (or behind); it sees that within SEEN_SECONDS."""
        self._file(service).write_text(f"{seconds:+d}\n")

    def _file(self, service: str) -> Path:
        return self._folder / service


def _find() -> Path | None:
    for folder in (Path("/usr/lib"), cache_folder() / "faketime/usr/lib"):
        if (library := folder / _LIBRARY).exists():
            return library
    return None


def _fetch() -> Path | None:
    """Unpack Debian's package into the cache, which needs no root; None where that can't be done."""
    into = cache_folder() / "faketime"
    with (
        tempfile.TemporaryDirectory() as download,
        suppress(OSError, ValueError, subprocess.CalledProcessError),
    ):
        _quietly(["apt-get", "download", "libfaketime"], download)
        (archive,) = Path(download).glob("*.deb")
        _quietly(["dpkg-deb", "-x", str(archive), str(into)], download)
    return _find()


def _quietly(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
