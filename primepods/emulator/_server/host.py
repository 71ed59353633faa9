"""A thread that runs an event loop and a listener, for blocking use of an emulator."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait

from .app import App
from .listener import Listener


class Host:
    """Server thread of one emulator; ``port`` is 0 for any free port, and after ``start`` the bound port."""

    def __init__(self, app: App, host: str, port: int) -> None:
        self.port: int = port
        self._host = host
        self._listener = Listener(app)
        self._thread = threading.Thread(target=self._run, name="primepods-emulator", daemon=True)
        self._stop = asyncio.Event()
        self._started: Future[asyncio.AbstractEventLoop] = Future()

    def start(self) -> None:
        """Start the thread and bind the port; raises ``OSError`` if the port is taken."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the thread, and abandon requests in flight."""
        # If `start` was interrupted, the thread may have no loop to stop yet.
        wait([self._started])
        if self._started.exception() is None:
            self._started.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()

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
        self._started.set_result(asyncio.get_running_loop())
        try:
            await self._stop.wait()
        finally:
            await self._listener.stop()
