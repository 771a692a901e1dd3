"""The local stack for integration tests: one for the whole session, beside any demo that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from rich.console import Console

from schemas.errors import TongbuError
from tongbu.instance import ROOT, Instance
from tongbu.stack import lifecycle
from tongbu.stack.display import Progress

# A busy machine is no finding.
settings.register_profile("tongbu", deadline=None)
settings.load_profile("tongbu")


def pytest_sessionstart() -> None:
    """Refuse to test libraries of sources that have changed since `make` has compiled them."""
    stamp = ROOT / ".venv/.compiled"
    if not stamp.exists():
        return
    for library in [*ROOT.glob("schemas/*.so"), *ROOT.glob("streams/**/*.so")]:
        name = library.name.partition(".")[0]
        for source in (library.with_name(f"{name}.py"), library.with_name(f"{name}.pyx")):
            if source.exists() and source.stat().st_mtime > stamp.stat().st_mtime:
                pytest.exit(f"{source.relative_to(ROOT)} has changed: run `make setup`", 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stack_instance" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def stack_instance() -> Iterator[Instance]:
    """A fresh stack's servers; skipped on a laptop where they can't be started, a failure in CI."""
    name = os.environ.get("TONGBU_TEST_INSTANCE", "test")
    lifecycle.down(Instance.load(name), purge=True)
    instance = Instance.load(name)
    try:
        with Progress(Console(stderr=True)) as progress:
            lifecycle.up(instance, progress, with_pipeline=False)
    except TongbuError as error:
        lifecycle.down(instance, purge=True)
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield instance
    lifecycle.down(instance, purge=True)


@pytest.fixture(scope="session")
def mysql_dsn(stack_instance: Instance) -> str:
    """The stack's MySQL server, as root; it starts when the first test asks for it."""
    with Progress(Console(stderr=True)) as progress:
        lifecycle.up(stack_instance, progress, with_pipeline=False, extras=["mysql"])
    return stack_instance.mysql_admin_dsn()


@pytest.fixture(scope="session")
def stack(stack_instance: Instance) -> dict[str, str]:
    """The environment of the stack's processes: KAFKA_BOOTSTRAP, ERP_DSN …"""
    return stack_instance.environment()
