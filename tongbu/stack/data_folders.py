"""Makes the servers' data folders on first start: initdb, MariaDB's system tables, Kafka's storage."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schemas.errors import TongbuError
from tongbu.instance import ROOT, Instance

NATIVE = ROOT / "docker/native"
#: Database servers refuse root or should not have it; as root they run as `nobody`.
SERVER_UID = 65534


def server_home(instance: Instance, server: str) -> Path:
    """Return the folder of a database server: its configuration file and `data`."""
    return (instance.folder / "data" / server).resolve()


def prepare(
    instance: Instance,
    programs: Path,
    kafka_command: Sequence[str],
    kafka: Mapping[str, str],
    extras: Sequence[str] = (),
) -> None:
    """
    Make what is missing, each server's at the same time; what is there stays. Raise TongbuError when a tool fails.

    `extras` are the servers that an instance has only when asked: mysql.
    """
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_postgres, instance, programs / "postgres"),
            pool.submit(_mariadb, instance, programs / "mariadb"),
            *([pool.submit(_mysql, instance, programs / "mysql")] if "mysql" in extras else []),
            pool.submit(prepare_kafka, kafka_command, kafka),
        ]
        for job in jobs:
            job.result()


def _postgres(instance: Instance, programs: Path) -> None:
    home = _make_home(instance, "postgres")
    _configure(home, "postgresql.conf")
    if (home / "data").exists():
        return
    password = _write(home / "password", instance.secrets.postgres)
    new = _empty(home / "data.new")
    # The builtin locale sorts by code point and needs no locale of the machine.
    _run_as_server(
        [
            str(programs / "bin/initdb"), "-D", str(new), "-U", "postgres", "--pwfile", str(password),
            "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ],
        home,
    )  # fmt: skip
    password.unlink()
    new.rename(home / "data")


def _mariadb(instance: Instance, programs: Path) -> None:
    home = _make_home(instance, "mariadb")
    _configure(home, "mariadb.cnf")
    if (home / "data").exists():
        return
    root = f"root@'127.0.0.1' IDENTIFIED BY '{instance.secrets.mariadb}'"
    accounts = _write(
        home / "accounts.sql",
        "DELETE FROM mysql.global_priv WHERE User IN ('root', '');\n"
        f"FLUSH PRIVILEGES;\nCREATE USER {root};\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n",
    )
    new = _empty(home / "data.new")
    _run_as_server(
        [
            str(programs / "scripts/mariadb-install-db"), f"--defaults-file={home / 'mariadb.cnf'}",
            f"--basedir={programs}", f"--datadir={new}", f"--extra-file={accounts}", f"--tmpdir={home}",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin",
        ],
        home,
    )  # fmt: skip
    accounts.unlink()
    new.rename(home / "data")


def _mysql(instance: Instance, programs: Path) -> None:
    home = _make_home(instance, "mysql")
    _configure(home, "mysql.cnf")
    if (home / "data").exists():
        return
    accounts = _write(
        home / "accounts.sql",
        f"CREATE USER root@'127.0.0.1' IDENTIFIED BY '{instance.secrets.mysql}';\n"
        "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\nDROP USER root@localhost;\n",
    )
    new = _empty(home / "data.new")
    _run_as_server(
        [
            str(programs / "bin/mysqld"), f"--defaults-file={home / 'mysql.cnf'}", "--initialize-insecure",
            f"--basedir={programs}", f"--datadir={new}", f"--lc-messages-dir={programs}/share",
            f"--init-file={accounts}", f"--tmpdir={home}",
        ],
        home,
        LD_LIBRARY_PATH=f"{programs}/lib",
    )  # fmt: skip
    accounts.unlink()
    new.rename(home / "data")


def prepare_kafka(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Make the broker's data folder where it is missing."""
    data = Path(environment["TONGBU_KAFKA_DATA"])
    if (data / "meta.properties").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    data.parent.mkdir(parents=True, exist_ok=True)
    _run([*command, "--cluster-id", cluster], data.parent, environment)


def _make_home(instance: Instance, server: str) -> Path:
    """Make a server's folder, owned by who will run it; outside the checkout where that user can't get into it."""
    link = instance.folder / "data" / server
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)
        if os.geteuid() == 0 and not _open_to_all(link.parent):
            link.symlink_to(tempfile.mkdtemp(prefix=f"tongbu-{server}-", dir="/var/tmp"))
        else:
            link.mkdir(mode=0o700)
    home = link.resolve()
    _give(home)
    return home


def _open_to_all(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in [folder, *folder.parents])


def _configure(home: Path, file: str) -> None:
    """Copy a configuration file to where the server's user can read it."""
    copy = home / file
    shutil.copyfile(NATIVE / file, copy)
    _give(copy)


def _write(file: Path, text: str) -> Path:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    _give(file)
    return file


def _empty(folder: Path) -> Path:
    """Return the folder, without what an interrupted first start has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    _give(folder)
    return folder


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, SERVER_UID, SERVER_UID)


def _run_as_server(command: Sequence[str], home: Path, **environment: str) -> None:
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        identity = {"user": SERVER_UID, "group": SERVER_UID, "extra_groups": []}
    _run(command, home, {"HOME": str(home), "LANG": "C.UTF-8", **environment}, **identity)


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], **identity: Any
) -> None:
    environment = {
        "PATH": os.defpath,
        **environment,
    }  # the caller's may lead where `nobody` can't go
    answer = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )
    if answer.returncode:
        last = (answer.stderr or answer.stdout).strip().splitlines()[-5:]
        raise TongbuError(
            f"{Path(command[0]).name} failed in {folder}:\n    " + "\n    ".join(last),
            "Look at the lines above; `tongbu down --purge` removes what is half made.",
        )
