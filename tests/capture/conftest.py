"""Three captured databases, one connector each, for all tests of capture: first prepared, then started."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from capturing import Captured
from types_on_servers import make_tables

from tongbu.instance import Instance

DATABASES = ("postgresql", "mariadb", "mysql")


@pytest.fixture(scope="session", params=DATABASES)
def captured(
    request: pytest.FixtureRequest, stack_instance: Instance, mysql_dsn: str
) -> Iterator[Captured]:
    """A database whose initial snapshot has read the tables of types, and that is streamed since."""
    dsns = {
        "postgresql": stack_instance.postgres_admin_dsn(),
        "mariadb": stack_instance.mariadb_admin_dsn(),
        "mysql": mysql_dsn,
    }
    url = f"http://127.0.0.1:{stack_instance.ports.connect}"
    with httpx.Client(base_url=url, timeout=20) as connect:
        bootstrap = f"127.0.0.1:{stack_instance.ports.kafka}"
        subject = Captured(request.param, dsns[request.param], bootstrap, connect)
        subject.prepare()
        make_tables(subject)
        subject.start()
        yield subject
        subject.remove()


@pytest.fixture
def postgresql(captured: Captured) -> Captured:
    """The captured PostgreSQL database; what asks for it is skipped for the others."""
    if captured.database != "postgresql":
        pytest.skip("PostgreSQL only")
    return captured
