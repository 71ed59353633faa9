"""How a run ends. Each end takes the same steps, and this table says what differs.

| :class:`Reason` | The command | Exit code of the run |
|---|---|---|
| ``COMMAND_ENDED`` | has ended | the command's |
| ``LIMIT_NEAR`` | is asked to end | 5 |
| ``INTERRUPTED`` | is asked to end | 130, after SIGTERM 143, after SIGHUP 129 |
| ``JOB_LOST`` | what is left of it is asked to end | 4, unless it starts again on another pod |
| ``UNREACHABLE`` | may still run | 255 |
| ``POD_LOST`` | is lost with the pod | 4, unless it starts again on another pod |
| ``FAILED`` | is asked to end | that of the error |

The steps are to ask the command to end (SIGTERM, and SIGKILL after half of the wind-down), to fetch the
results, to hold the pod while one is missing, to delete the pod, and to give the verdict. A second
interruption, and the limit, go straight to the deletion.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from .._utils.money import money
from .._utils.text import short_duration
from ._host import BUDGET_EXCEEDED, FAILED, INTERRUPTED, POD_FAILED, SSH_FAILED
from ._process import delayed_stop
from ._run import STOP_SIGNALS, Run

if TYPE_CHECKING:
    from ..leasing.supervisor import LeaseSupervisor
    from ._work import Work

_SAME_MOMENT = 0.3
"""Seconds within which interruptions count as one: a shell and a terminal may both send them."""
_SHUTDOWN = 5.0
"""The same for SIGHUP and SIGTERM: a shutdown, or a terminal that is closed, may send both."""
_SIGNALS = {
    "SIGHUP": "the pod's terminal was closed",
    "SIGILL": "often a program for another processor",
    "SIGABRT": "the program has aborted itself",
    "SIGBUS": "often too little shared memory in /dev/shm",
    "SIGKILL": "often out of memory",
    "SIGSEGV": "a crash in native code",
}
"""What it usually means that a signal has ended a command."""
_SHELL_CODES = {126: "it cannot be executed", 127: "the command was not found"}
"""Exit codes that every shell uses."""
_SIGNAL_CODE = 128


@attrs.frozen
class _Row:
    """How a run ends for one reason.

    Attributes:
        phrase: Phrase for the verdict; empty if the command's end says it all.
        exit_code: The run's exit code; ``None`` for the command's.
        is_asked: Whether the command is asked to end.
    """

    phrase: str
    exit_code: int | None
    is_asked: bool = True


_KILLED: Final = 137
"""Exit code of a command that SIGKILL has ended."""


class Reason(Enum):
    """Why a run ends, or leaves its pod; see the table above."""

    COMMAND_ENDED = _Row("", None, is_asked=False)
    LIMIT_NEAR = _Row("the limit was near", BUDGET_EXCEEDED)
    INTERRUPTED = _Row("it was stopped", INTERRUPTED)
    JOB_LOST = _Row("the job was lost on its pod", POD_FAILED)
    UNREACHABLE = _Row("the pod could not be reached", SSH_FAILED, is_asked=False)
    POD_LOST = _Row("the pod was lost", POD_FAILED, is_asked=False)
    FAILED = _Row("an error has ended it", FAILED)


@attrs.frozen
class CommandEnd:
    """How the command ended.

    Attributes:
        exit_code: Its exit code; ``None`` if it is unknown.
        seconds: Its run time; ``None`` if it is unknown.
    """

    exit_code: int | None
    seconds: float | None

    def describe(self, *, was_asked: bool) -> str:
        """Return a phrase such as ``exit code 137 (SIGKILL, often out of memory) after 3m``.

        Args:
            was_asked: Whether the run has asked the command to end, and so may have sent SIGKILL itself.
        """
        after = "" if self.seconds is None else f" after {short_duration(self.seconds)}"
        if self.exit_code is None:
            return f"an unknown exit code{after}"
        meaning = describe_code(self.exit_code)
        if was_asked and self.exit_code == _KILLED:
            meaning = "SIGKILL, after SIGTERM"
        return f"exit code {self.exit_code}{meaning and f' ({meaning})'}{after}"


def describe_code(code: int) -> str:
    """Return what an exit code of a command usually means; empty for those that mean nothing special."""
    if code in _SHELL_CODES:
        return _SHELL_CODES[code]
    try:
        name = signal.Signals(code - _SIGNAL_CODE).name
    except ValueError:
        return ""
    usual = _SIGNALS.get(name)
    return f"{name}, {usual}" if usual else name


class RunInterruptions:
    """What has asked a run to end: signals, and `primepods stop`.

    Attributes:
        requested: Set by the first one.
        exit_code: The exit code that the first one asks for.
        phrase: What it was, for the verdict.
        count: How many were counted.
        is_from_stop: Whether `primepods stop` waits for the end.
        on_change: Called after each change of the count.
    """

    def __init__(self) -> None:
        self.requested: asyncio.Event = asyncio.Event()
        self.exit_code: int = INTERRUPTED
        self.phrase: str = "it was stopped"
        self.count: int = 0
        self.is_from_stop: bool = False
        self.on_change: Callable[[], object] = lambda: None
        self._last_at = float("-inf")
        self._last_number: int | None = None

    def add(self, number: int | None = None) -> None:
        """Count an interruption by a signal, by default by Ctrl-C."""
        now = asyncio.get_running_loop().time()
        previous, self._last_at = self._last_at, now
        last_number, self._last_number = self._last_number, number
        is_shutdown = {number, last_number} == {signal.SIGTERM, getattr(signal, "SIGHUP", None)}
        if now - previous < (_SHUTDOWN if is_shutdown else _SAME_MOMENT):
            return
        if self.count == 0 and number not in {None, signal.SIGINT}:
            self.exit_code = _SIGNAL_CODE + int(number or 0)
            self.phrase = f"it was stopped by {signal.Signals(int(number or 0)).name}"
        self._count(self.count + 1)

    def stop(self, is_holding: Callable[[], bool], *, is_now: bool = False) -> None:
        """Do what `primepods stop` asks for. It may ask several times."""
        self.is_from_stop = True
        wanted = 2 if is_now or is_holding() else 1
        if self.count < wanted:
            self._count(wanted)

    def _count(self, count: int) -> None:
        self.count = count
        self.requested.set()
        self.on_change()

    @contextmanager
    def handled(self, is_holding: Callable[[], bool]) -> Generator[None]:
        """Handle the signals of this process in a block, except ignored ones."""
        loop = asyncio.get_running_loop()
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        handlers: dict[signal.Signals, Callable[[], Any]] = {
            signal.Signals[name]: partial(self.add, signal.Signals[name])
            for name in names
            if hasattr(signal, name) and signal.getsignal(signal.Signals[name]) not in {signal.SIG_IGN, None}
        }
        for number in STOP_SIGNALS:
            is_now = number == STOP_SIGNALS[-1]
            handlers[number] = partial(self.stop, is_holding, is_now=is_now)
            if sys.platform != "win32" and number in signal.sigpending():
                # Before the first step, which may fail.
                handlers[number]()
        previous = {number: signal.getsignal(number) for number in handlers}
        handled: list[signal.Signals] = []
        try:
            # Outside the main thread, and on Windows, there are no such handlers.
            with suppress(NotImplementedError, RuntimeError, ValueError):
                for number, handler in handlers.items():
                    loop.add_signal_handler(number, handler)
                    handled.append(number)
            with delayed_stop(is_delayed=False):
                yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
                signal.signal(number, previous[number])


def verdict_of(
    run: Run, work: Work, lease: LeaseSupervisor | None, interruptions: RunInterruptions, exit_code: int
) -> str:
    """Return how a run has ended: command, results, cost, and whether a pod is left."""
    record, outcome, command = run.record, work.outcome, work.outcome.command
    reason = work.describe_reason()
    if interruptions.count and (command is None or exit_code != command.exit_code):
        reason = reason or interruptions.phrase
    if command is None:
        end = f"exit code {exit_code}, {short_duration(time.time() - record.began_at)} after it began"
    else:
        was_asked = outcome.reason is not None and outcome.reason.value.is_asked
        end = f"{reason and 'its command ended with '}{command.describe(was_asked=was_asked)}"
    results = ""
    if record.job is not None:
        is_at_limit = lease is not None and lease.budget_error is not None
        cut = "cut off by the limit" if is_at_limit else "skipped"
        results = outcome.results.describe("" if outcome.is_complete else cut)
    sentences = [
        f"{run.name}: {reason and f'{reason}, '}{end}",
        "The command did not start" if command is None and record.job is None else "",
        results,
        f"Cost about {money(run.cost())}",
        describe_pod(run, lease),
    ]
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences if sentence)


def describe_pod(run: Run, lease: LeaseSupervisor | None) -> str:
    """Return a sentence for the verdict: whether a pod is left, given the last lease."""
    if lease is not None and lease.is_kept:
        pod_id = run.record.pod_id
        return f"Its pod {pod_id} still runs and is billed; delete it with `primepods delete {pod_id}`"
    # If a lease file is left, the order's pod may exist.
    is_uncertain = run.may_have_pod or (lease is not None and lease.has_file)
    return "Its pod may still be billed; see `primepods sweep`" if is_uncertain else "No pod is left"
