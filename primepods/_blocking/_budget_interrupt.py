"""Raises in the block of a blocking lease whose budget is used up, from another thread.

Python can raise an exception in another thread, but keeps only one for each thread, raises it at that
thread's next step, wherever that is, and must not be asked to take it back: CPython 3.11 then leaves a mark
on the thread, which makes it stand still for ever under a debugger or coverage. So this keeps a list of each
thread's open blocks, raises only in a block that is still running there, and not while one of that thread's
pods is being released.
"""

from __future__ import annotations

import inspect
import sys
import threading
from types import FrameType
from typing import Final

_ENTERING: Final = frozenset({"__enter__", "enter_context"})
"""Functions that enter a block for the one that called them."""


class BlockInterrupted(BaseException):
    """The pod of the block, or of one around it, is gone, because its budget is used up.

    The lease turns it into a :class:`~primepods.BudgetExceededError` at the end of its block.
    """

    def __str__(self) -> str:
        return "the pod that is used here is deleted: the budget of its lease is used up"


class Block:
    """The block of one lease: made, entered, left and done in the thread that uses it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._is_entered = self._is_left = self._is_due = False
        self._frame: FrameType | None = None

    @property
    def is_due(self) -> bool:
        """Whether this is a block to be interrupted."""
        return self._is_due

    def enter(self) -> None:
        """The block begins, in the function that the lease was entered for."""
        self._frame = _block_frame()
        with _lock:
            self._is_entered = True
            _open_blocks.setdefault(self._thread, []).append(self)
            _interrupt_if_due(self._thread)

    def interrupt(self) -> None:
        """Raise in the block at its next step, when a call that blocks it has ended; from any thread."""
        with _lock:
            self._is_due = True
            _interrupt_if_due(self._thread)

    def leave(self) -> None:
        """The block has ended: what was asked for comes now, and nothing else until :meth:`done`."""
        while True:
            try:
                with _lock:
                    self._is_left = True
                for _ in range(10):
                    # Each turn is a step at which Python raises.
                    pass
            except BlockInterrupted:
                continue
            return

    def done(self, *, interrupt_outer: bool) -> None:
        """The lease of the block has ended.

        Args:
            interrupt_outer: Whether a block around it that is due has to be told.
        """
        self._frame = None
        with _lock:
            blocks = _open_blocks.get(self._thread, [])
            if self in blocks:
                blocks.remove(self)
            if not blocks:
                _open_blocks.pop(self._thread, None)
            elif interrupt_outer:
                _interrupt_if_due(self._thread)

    @property
    def _is_running(self) -> bool:
        """Whether its thread is still in it, and has not gone on to another job with the lease left open."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is not None

    def can_be_interrupted(self) -> bool:
        """Whether it is due, and its thread is in it."""
        return self._is_due and self._is_entered and self._is_running

    @property
    def is_left(self) -> bool:
        """Whether the code in it has ended, so that its pod is being released."""
        return self._is_left


# Reentrant: a signal handler may enter and leave a block of its own in the midst of another's.
_lock: Final = threading.RLock()
_open_blocks: Final[dict[int, list[Block]]] = {}


def _interrupt_if_due(thread: int) -> None:
    """Raise in a thread if one of its blocks is due, and none is being left; with the lock held."""
    blocks = _open_blocks.get(thread, [])
    if not any(block.is_left for block in blocks) and any(block.can_be_interrupted() for block in blocks):
        import ctypes  # noqa: PLC0415 - takes longer to load than most of this package

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(BlockInterrupted))


def _block_frame() -> FrameType | None:
    """Return the frame in which the block of the ``with`` statement that is being entered runs."""
    frame: FrameType | None = inspect.currentframe()
    entered = False
    while frame is not None:
        enters = frame.f_code.co_name in _ENTERING
        if entered and not enters and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            return frame
        entered = entered or enters
        frame = frame.f_back
    return None
