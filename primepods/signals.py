"""Handling of SIGTERM and SIGHUP, so that leased pods are deleted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNAL_EXIT_CODE: Final = 128
"""After a signal, a shell reports this plus the signal's number as the exit code."""


@contextmanager
def exit_on_sigterm() -> Generator[None]:
    """Make SIGTERM and SIGHUP interrupt a block, like Ctrl-C: ``with primepods.exit_on_sigterm():``.

    By default these signals end Python at once, and leased pods keep running. In this block the first signal
    has the effect of Ctrl-C, in asyncio and in blocking code; later ones do nothing. At its end, the block
    restores the previous handlers. If a signal came, it raises ``SystemExit`` with the exit code of shells
    (143, 129), unless the code in the block raises an error of its own. A signal that is ignored, such as
    SIGHUP with ``nohup``, or handled by a program that embeds Python, keeps its handler. SIGKILL cannot be
    handled.

    Raises:
        RuntimeError: Called outside the main thread, the only one that gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("exit_on_sigterm works only in the main thread, the only one that gets signals")
    received: list[int] = []
    block_task = _current_task()

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            _interrupt(frame, block_task)

    handled = [number for number in _termination_signals() if _is_replaceable(signal.getsignal(number))]
    previous = {number: signal.signal(number, on_signal) for number in handled}
    notes: list[str] = []
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError) as exc:
        if not received:
            raise
        # Keep the notes of leases, such as that a pod may still be billed.
        notes = getattr(exc, "__notes__", [])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        error = SystemExit(_SIGNAL_EXIT_CODE + received[0])
        for note in notes:
            error.add_note(note)
        raise error


def _termination_signals() -> list[signal.Signals]:
    return [signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _is_replaceable(handler: object) -> bool:
    # `None` stands for a handler that was not installed by Python, which could not restore it.
    return handler is not signal.SIG_IGN and handler is not None


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _interrupt(frame: FrameType | None, block_task: asyncio.Task[object] | None) -> None:
    """Call the handler of Ctrl-C; without one, cancel the tasks or raise KeyboardInterrupt."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        # asyncio's handler cancels the main task; Python's raises KeyboardInterrupt.
        handler(signal.SIGINT, frame)
        return
    # Nothing handles Ctrl-C, for example in a background job of a shell.
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise KeyboardInterrupt from None
    # If the block is around `asyncio.run`, it has no task. The main task is unknown: cancel all tasks.
    tasks = asyncio.all_tasks(loop) if block_task is None else {block_task}
    for task in tasks:
        loop.call_soon_threadsafe(task.cancel)
