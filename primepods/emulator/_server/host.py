"""A thread that runs an event loop and a listener, for blocking use of an emulator."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait

from .app import App
from .listener import Listener


class Host:
    """Server thread that serves one emulator after another on the same socket; see ``Emulator.serve_on``.

    ``port`` is 0 for any free port; after ``start`` it is the bound port.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, app: App | None = None) -> None:
        self.port: int = port
        self._host = host
        self._listener = Listener(app)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._started: Future[None] = Future()

    def start(self) -> None:
        """Start the thread and bind the port; raises ``OSError`` if the port is taken."""
        self._thread = threading.Thread(target=self._run, name="primepods-emulator", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the thread, if it runs, and abandon requests in flight. A host cannot be started again."""
        if self._thread is None:
            return
        # If `start` was interrupted, the thread may have no loop to stop yet.
        wait([self._started])
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = None

    def mount(self, app: App | None) -> None:
        """Close all connections, then serve another app, or none. Does nothing if the thread does not run."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._listener.mount(app), self._loop).result()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            # `start` raises it in the calling thread.
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self.port = await self._listener.start(self._host, self.port)
        self._loop = asyncio.get_running_loop()
        self._started.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self._listener.stop()
