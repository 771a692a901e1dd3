"""Runs an instance's processes under supervisord, which restarts what dies; finds those that a killed supervisord left."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from schemas.errors import TongbuError
from tongbu.instance import Instance
from tongbu.stack import obituaries
from tongbu.stack.services import Service

#: Marks every process that we start, with its instance's folder; nothing else is ever stopped.
MARK = "TONGBU_SUPERVISED"
_LONGEST_SOCKET = 100
_STOP_SECONDS = 20


class Supervisor:
    """The supervisord of one instance, by its configuration file, socket and log."""

    def __init__(self, instance: Instance) -> None:
        self.folder = instance.folder
        self.logs = instance.folder / "logs"
        self.socket = _socket(instance.folder)
        self._config = instance.folder / "supervisord.conf"

    @property
    def rpc(self) -> Any:
        """Return supervisord's `supervisor` namespace; a call raises OSError when it doesn't run."""
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def running(self) -> bool:
        """Tell whether supervisord answers."""
        try:
            self.rpc.getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def died(self) -> bool:
        """Tell whether supervisord is gone though nobody stopped it: `stop` takes its configuration away."""
        return self._config.exists() and not self.running()

    def start(self, services: Iterable[Service]) -> None:
        """Run supervisord with these services; one that runs already learns what has changed."""
        self.logs.mkdir(exist_ok=True)
        _write_private(self._config, self._configuration(services))
        if self.running():
            self._update()
            return
        stop_orphans(self.folder)
        self.socket.unlink(missing_ok=True)
        obituaries.forget(self.logs)
        kept = ("PATH", "HOME", "TMPDIR", "USER")
        environment = {key: os.environ[key] for key in kept if key in os.environ}
        environment |= {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", MARK: str(self.folder)}
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        subprocess.run(command, env=environment, check=True)
        self._await_socket()

    def start_process(self, name: str) -> None:
        """Start a service unless it runs; one that dies before supervisord has answered is started again by it."""
        try:
            self.rpc.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (Faults.ALREADY_STARTED, Faults.SPAWN_ERROR):
                raise

    def processes(self) -> dict[str, dict[str, Any]]:
        """Return supervisord's view of each service, empty when it doesn't run."""
        try:
            infos = self.rpc.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return {}
        return {info["name"]: info for info in infos}

    def stop(self, *, at_once: bool = False) -> None:
        """Stop all services, last started first, then supervisord; `at_once` gives them no time to tidy up."""
        if self.running() and not at_once:
            with suppress(psutil.Error):  # gone already, or so slow that it is stopped below
                process = psutil.Process(self.rpc.getPID())
                self.rpc.shutdown()
                process.wait(timeout=5 * _STOP_SECONDS)
        stop_orphans(self.folder, at_once=at_once)
        self.socket.unlink(missing_ok=True)
        self._config.unlink(missing_ok=True)

    def _update(self) -> None:
        added, changed, removed = self.rpc.reloadConfig()[0]
        for name in [*changed, *removed]:
            self.rpc.stopProcessGroup(name)
            self.rpc.removeProcessGroup(name)
        for name in [*added, *changed]:
            self.rpc.addProcessGroup(name)

    def _await_socket(self) -> None:
        for _ in range(100):
            if self.running():
                return
            time.sleep(0.1)
        raise TongbuError(
            "supervisord did not start", f"Its log says why: {self.logs / 'supervisord.log'}"
        )

    def _configuration(self, services: Iterable[Service]) -> str:
        sections: dict[str, dict[str, Any]] = {
            "unix_http_server": {"file": _escaped(self.socket), "chmod": "0700"},
            "supervisord": {
                "logfile": _escaped(self.logs / "supervisord.log"),
                "logfile_maxbytes": "2MB",
                "logfile_backups": 1,
                "pidfile": _escaped(self.folder / "supervisord.pid"),
                "childlogdir": _escaped(self.logs),
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "eventlistener:obituaries": {
                "command": _escaped(
                    shlex.join([sys.executable, "-m", obituaries.__name__, str(self.logs)])
                ),
                "events": "PROCESS_STATE_EXITED,PROCESS_STATE_BACKOFF",
                "stdout_logfile": "NONE",
                "stderr_logfile": _escaped(self.logs / "obituaries.log"),
            },
        }
        for place, service in enumerate(services, 1):
            sections[f"program:{service.name}"] = self._program(service, place)
        return "\n".join(
            f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items())
            for section, keys in sections.items()
        )

    def _program(self, service: Service, place: int) -> dict[str, Any]:
        return {
            "command": _escaped(shlex.join(service.command)),
            "directory": _escaped(service.folder),
            "environment": _escaped(
                ",".join(f'{key}="{value}"' for key, value in service.environment.items())
            ),
            "priority": place,
            "autostart": "false",  # `up` starts them, each when what it needs is ready
            "autorestart": "true",
            "startsecs": service.steady_seconds,
            "startretries": 1000,  # the pause grows by a second each time
            "stopsignal": service.stop_signal,
            "stopwaitsecs": _STOP_SECONDS,
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _escaped(self.logs / f"{service.name}.log"),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 1,
            **({"user": "nobody"} if service.drops_root and os.geteuid() == 0 else {}),
        }


def stop_orphans(folder: Path, *, at_once: bool = False) -> list[int]:
    """Stop the processes of the instance in `folder` that no living supervisord looks after; return their ids.

    With `at_once` also a living supervisord, and without asking politely.
    """
    orphans = [process for process in psutil.process_iter() if _marked(process, folder)]
    for process in orphans:
        _end(process, at_once=at_once)
    _, stubborn = psutil.wait_procs(orphans, timeout=_STOP_SECONDS)
    for process in stubborn:
        _end(process, at_once=True)
    psutil.wait_procs(stubborn, timeout=_STOP_SECONDS)
    return [process.pid for process in orphans]


def _end(process: psutil.Process, *, at_once: bool) -> None:
    polite, rude = signal.SIGTERM, signal.SIGKILL
    try:
        if process.name() == "postgres":  # ends its own children, unless it is killed
            polite, rude = signal.SIGINT, signal.SIGQUIT
        process.send_signal(rude if at_once else polite)
    except psutil.NoSuchProcess:
        return


def _marked(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        return False


def _socket(folder: Path) -> Path:
    """Return a path that fits into a socket's address, which has about 100 bytes."""
    socket = folder / "supervisor.sock"
    if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
        return socket
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tongbu-{os.geteuid()}-{digest}.sock"


def _escaped(text: str | Path) -> str:
    """Return the text as supervisord's configuration wants it: % starts an expansion there."""
    return str(text).replace("%", "%%")


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
