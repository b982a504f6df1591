"""A TCP cable that tests can cut: forwards a port of its own to the site's until `cut`, and again after `mend`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Cable:
    def __init__(self, port: int) -> None:
        self._far = port
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable", daemon=True)
        self._listening: socket.socket | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._joined: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def mend(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def cut(self) -> None:
        """End every connection at once and let nobody in."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)

    def fall_silent(self) -> None:
        """Swallow all that the connections of now carry, without ending them; new ones work."""
        self._dead |= self._writers

    async def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._listening.setblocking(False)
        self._port = self._listening.getsockname()[1]
        self._loop.add_reader(self._listening, self._accept, self._listening)

    async def _close(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for joined in self._joined:
            joined.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        """asyncio's own server forgets, unclosed, whom it lets in just as it is closed."""
        try:
            near, _ = listening.accept()
        except OSError:
            return
        near.setblocking(False)
        joined = self._loop.create_task(self._join(near))
        self._joined.add(joined)
        joined.add_done_callback(self._joined.discard)
        joined.add_done_callback(lambda _: near.close())

    async def _join(self, near: socket.socket) -> None:
        ends: set[asyncio.StreamWriter] = set()
        try:
            reader, writer = await asyncio.open_connection(sock=near)
            ends.add(writer)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far)
            ends.add(far_writer)
            self._writers |= ends
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except ConnectionRefusedError:
            return
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if writer not in self._dead:
                    writer.write(data)
                    await writer.drain()
            writer.write_eof()
