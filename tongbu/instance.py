"""An instance of the local stack: its folder, ports and secrets, and the environment its processes get.

Several instances live side by side under `.run/`; tests use one of their own beside a running demo.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from schemas.errors import TongbuError

#: The checkout: declarations, connectors-config/ and docker/ are found from here.
ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"

_STEP = 100
_BLOCKS = 100


@dataclass(frozen=True)
class Ports:
    """The ports of the default instance; another one adds a multiple of 100 to each."""

    postgres: int = 15432
    mariadb: int = 13306
    mysql: int = 13307
    kafka: int = 19092
    controller: int = 19093
    connect: int = 18083
    registry: int = 18081
    webhook: int = 18090
    processor: int = 18095
    watch: int = 18096

    @classmethod
    def block(cls, number: int) -> Ports:
        """Return the ports of block `number`; 0 is the default instance's."""
        return cls(**{name: port + number * _STEP for name, port in asdict(cls()).items()})

    def free(self) -> bool:
        """Tell whether nobody listens on any of them."""
        return not any(_listening(port) for port in asdict(self).values())


@dataclass(frozen=True)
class Secrets:
    """Random per instance, never shown by `status`; named after the user they belong to."""

    postgres: str
    mariadb: str
    mysql: str
    erp: str
    oa: str
    warehouse: str
    hub: str
    oa_hub: str
    erp_capture: str
    oa_capture: str
    registry: str
    webhook: str


@dataclass(frozen=True)
class Instance:
    """One local stack; `load` makes its folder, ports and secrets on first use."""

    name: str
    folder: Path
    ports: Ports
    secrets: Secrets

    @classmethod
    def load(cls, name: str = "default") -> Instance:
        """Return the instance, with ports and secrets as they were at its first use. Raise TongbuError for a bad name."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,30}", name):
            raise TongbuError(
                f"instance {name!r}: not a name",
                "Use lower-case letters, digits, - and _, at most 31.",
            )
        folder = run_folder() / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(run_folder() / "instances.lock"):
                return cls(name, folder, _ports(name, folder), _secrets(folder))
        except OSError as error:
            raise TongbuError(
                f"{error.filename or folder}: {error.strerror}",
                "Instances are in `.run` of the checkout, or where TONGBU_RUN says: a folder that you may write.",
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise TongbuError(
                f"{folder}: instance.json or secrets.json is not what was written there",
                "Restore them; without them the instance's data can't be used: remove the folder to begin anew.",
            ) from error

    def environment(self) -> dict[str, str]:
        """Return what a process needs to find every service, as `tongbu env` prints it."""
        ports, secret = self.ports, self.secrets
        return {
            "KAFKA_BOOTSTRAP": f"{HOST}:{ports.kafka}",
            "CONNECT_URL": f"http://{HOST}:{ports.connect}",
            "REGISTRY_URL": f"http://{HOST}:{ports.registry}/apis/ccompat/v7",
            "ERP_DSN": self._postgres("erp", secret.erp, "erp"),
            "OA_DSN": self._mariadb("oa", secret.oa, "oa"),
            "WAREHOUSE_DSN": self._postgres("warehouse", secret.warehouse, "warehouse"),
            "HUB_DSN": self._postgres("hub", secret.hub, "hub"),
            "OA_HUB_DSN": self._mariadb("oa_hub", secret.oa_hub, "oa_hub"),
            "WEBHOOK_URL": f"http://{HOST}:{ports.webhook}/webhook",
            "WEBHOOK_SECRET": secret.webhook,
            "TONGBU_DATA": str(self.folder),
            "ERP_CAPTURE_DSN": self._postgres("tongbu_capture", secret.erp_capture, "erp"),
            "OA_CAPTURE_DSN": self._mariadb("tongbu_capture", secret.oa_capture, "oa"),
        }

    def connect_environment(self) -> dict[str, str]:
        """Return what connectors may read as `${env:TONGBU_…}`."""
        ports, secret = self.ports, self.secrets
        return {
            "TONGBU_KAFKA_BOOTSTRAP": f"{HOST}:{ports.kafka}",
            "TONGBU_ERP_HOST": HOST,
            "TONGBU_ERP_PORT": str(ports.postgres),
            "TONGBU_ERP_CAPTURE_USER": "tongbu_capture",
            "TONGBU_ERP_CAPTURE_PASSWORD": secret.erp_capture,
            "TONGBU_OA_HOST": HOST,
            "TONGBU_OA_PORT": str(ports.mariadb),
            "TONGBU_OA_CAPTURE_USER": "tongbu_capture",
            "TONGBU_OA_CAPTURE_PASSWORD": secret.oa_capture,
        }

    def compose_secrets(self) -> dict[str, str]:
        """Return the passwords for docker/compose.yaml, so that this instance's environment fits the containers."""
        return {f"SECRET_{user.upper()}": secret for user, secret in asdict(self.secrets).items()}

    def postgres_admin_dsn(self) -> str:
        """Return the DSN of PostgreSQL's superuser."""
        return self._postgres("postgres", self.secrets.postgres, "postgres")

    def mariadb_admin_dsn(self) -> str:
        """Return the DSN of MariaDB's root."""
        return self._mariadb("root", self.secrets.mariadb, "mysql")

    def mysql_admin_dsn(self) -> str:
        """Return the DSN of MySQL's root; the server runs only where it was asked for (`up --with mysql`)."""
        return f"mysql://root:{self.secrets.mysql}@{HOST}:{self.ports.mysql}/mysql"

    def _postgres(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{self.ports.postgres}/{database}"

    def _mariadb(self, user: str, password: str, database: str) -> str:
        return f"mysql://{user}:{password}@{HOST}:{self.ports.mariadb}/{database}"


class Environment(dict[str, str]):
    """The environment of this process; what it lacks is an error that says so."""

    def __init__(self) -> None:
        super().__init__(os.environ)

    def __missing__(self, name: str) -> str:
        raise TongbuError(
            f"the environment has no {name}",
            "Give it, or take all from a local stack: without KAFKA_BOOTSTRAP that is asked.",
        )


def complete_environment(name: str) -> None:
    """Take from the instance what the environment does not say; in a container it says everything."""
    if "KAFKA_BOOTSTRAP" not in os.environ:
        for key, value in Instance.load(name).environment().items():
            os.environ.setdefault(key, value)


def run_folder() -> Path:
    """Return the folder of all instances: `.run` of the checkout, or what TONGBU_RUN names."""
    return Path(os.environ.get("TONGBU_RUN") or ROOT / ".run").absolute()


def write_whole(file: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a full disk, or a kill, leaves what was there before."""
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
    fresh.replace(file)


def _ports(name: str, folder: Path) -> Ports:
    file = folder / "instance.json"
    if file.exists():
        return _complete(json.loads(file.read_text())["ports"])
    ports = Ports() if name == "default" else _free_block(folder.parent)
    content = json.dumps({"name": name, "ports": asdict(ports)}, indent=2) + "\n"
    write_whole(file, content.encode())
    return ports


def _free_block(run: Path) -> Ports:
    taken = {
        _complete(json.loads(file.read_text())["ports"]) for file in run.glob("*/instance.json")
    }
    # Each checkout begins somewhere else: two that start at once would both find the same block free.
    first = zlib.crc32(os.fsencode(run))
    for number in range(_BLOCKS - 1):
        ports = Ports.block(1 + (first + number) % (_BLOCKS - 1))
        if ports not in taken and ports.free():
            return ports
    raise TongbuError(
        f"no free block of ports below {Ports.block(_BLOCKS)}",
        "Purge instances that are no longer needed: tongbu down --purge --instance NAME",
    )


def _complete(kept: dict[str, int]) -> Ports:
    """Return the ports of a file that an older version may have written: what it lacks is of the same block."""
    block = Ports.block((kept["postgres"] - Ports.postgres) // _STEP)
    return Ports(**(asdict(block) | kept))


def _secrets(folder: Path) -> Secrets:
    """Return the secrets of the file; those it lacks (it may be of an older version) are made and added."""
    file = folder / "secrets.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    made = {field.name: secrets.token_hex(16) for field in fields(Secrets)}
    made["webhook"] = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    if missing := made.keys() - kept:
        content = json.dumps(kept | {name: made[name] for name in missing}, indent=2) + "\n"
        write_whole(file, content.encode(), mode=0o600)
    return Secrets(**(made | kept))


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
