"""
Links: TCP proxies between the components of a stack, which can be cut, stalled and slowed down while traffic runs.

They live in one thread of the harness. A link is named by who calls whom, e.g. `sink-oa>mariadb`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from tongbu.instance import HOST

_CHUNK = 65536


class Link:
    """One proxy: `port` is where clients connect, `upstream` the port of who answers."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.port = upstream, 0
        self._is_cut, self._delay = False, 0.0
        self._flows: asyncio.Event = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Begin to serve on a free port."""
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    async def stall(self) -> None:
        """Let connections stand, but bring nothing over: neither side learns of it."""
        self._flows.clear()

    async def slow(self, seconds: float) -> None:
        """Bring every piece of at most 64 KiB over only after so long."""
        self._delay = seconds

    async def heal(self) -> None:
        """Be a good network again; what was stalled arrives now."""
        self._is_cut, self._delay = False, 0.0
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._connect(reader, writer)
        except OSError:  # the other side is down, and so is this one
            writer.transport.abort()
        finally:
            self._open.discard(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(HOST, self.upstream)
        self._open.add(back)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._open.discard(back)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                await self._flows.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(piece)
                await writer.drain()
        writer.close()


class Links:
    """All links of a stack, by name. Use as a context manager: they end with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: dict[str, Link] = {}

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __getitem__(self, name: str) -> Link:
        """Give a link; use `do` for what it is to do."""
        return self._links[name]

    def add(self, name: str, upstream: int) -> int:
        """Make a link; give the port to connect to."""
        link = Link(upstream)
        self._links[name] = link
        self.do(link.listen())
        return link.port

    def do(self, action: Coroutine[Any, Any, None]) -> None:
        """Run an action of a link in the links' thread; return when it is done."""
        asyncio.run_coroutine_threadsafe(action, self._loop).result()
