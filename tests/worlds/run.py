"""Run worlds: one simulation per seed, with bounds on time and steps, shrinking and replay."""

from __future__ import annotations

import asyncio
import asyncio.taskgroups
import fcntl
import io
import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final
from unittest.mock import patch

import aiohttp.connector
import simloom
import simloom._run
from anyio._backends import _asyncio
from simloom._context import current_host
from simloom._eventlog import EventLog

from primepods.remote._session import Session

from . import stories
from .invariants import BrokenInvariantError
from .loop import Loop
from .machine import Machine
from .programs import RunProcess, start_ssh
from .world import Listener, Stderr, World

Story = Callable[[World], Awaitable[None]]

MAX_STEPS: Final = 400_000
"""Steps of the loop in a world; the longest story takes a tenth of it."""
MAX_TIME: Final = 40 * 3600.0
"""Virtual seconds of a world."""
REAL_LIMIT: Final = 120.0
"""Real seconds of a world that does not return to its loop."""
_MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - `mkdtemp` is safe there
"""Folder in which syncing a file takes no time."""
_BEGINNING: Final = 1_000.0
_FSYNC: Final = os.fsync
_FLOCK: Final = fcntl.flock
_GETPID: Final = os.getpid
_DEAR: Final = {"agents", "long_wait"}
"""Stories that take as long as three others or more, and have a quarter of their seeds."""
_HASTE: Final = 900.0
"""Seconds by which time runs ahead when a world has ended."""
_SHRINK_STEP: Final = 25
SHRINK_SECONDS: Final = 20.0


_OPTIONS: Final[dict[str, Any]] = {
    "epoch": _BEGINNING,
    "virtual_time": True,
    "seed_randomness": True,
    "max_steps_per_instant": 50_000,
}


class HungError(AssertionError):
    """A world that does not end."""


def story_names() -> list[str]:
    """Return the names of all stories, sorted."""
    return sorted(module.name for module in iter_modules(stories.__path__))


def story_of(seed: int) -> str:
    """Return the story of a seed, if none is named: all have equally many seeds, but for the dear ones."""
    turns = [name for turn in range(4) for name in story_names() if turn == 0 or name not in _DEAR]
    return turns[seed % len(turns)]


def load(name: str) -> Story:
    """Return a story."""
    story: Story = import_module(f"{stories.__name__}.{name}").story
    return story


# The machines of one process: each step of the loop is one of a machine's.


class _Scheduler:
    """Simloom's random choice of the next step, with bounds, and with the environment of its machine."""

    descriptor = "random"

    def __init__(self, loop: Any, play: _Play) -> None:
        self._loop = loop
        self._draw = loop.tape.draw
        self._play = play
        self._steps = 0
        loop.subprocess_exec = play.start_ssh

    def pick(self, ready: Sequence[Any]) -> int:
        """Return the index of the next step."""
        index: int = self._draw("sched.pick", len(ready)) if len(ready) > 1 else 0
        self._play.enter(ready[index]._context.get(current_host))
        self._steps += 1
        if self._steps > MAX_STEPS or (self._loop.time() > MAX_TIME and not self._loop.haste):
            limit, self._steps = self._steps, MAX_STEPS // 2  # its cleanup has the other half
            raise HungError(f"the world does not end: {limit} steps, {self._loop.time():.0f} virtual seconds")
        return index


class _Play:
    """One world, from its seed to its end; called by simloom, also to replay it."""

    def __init__(self, story: Story, seed: int) -> None:
        self._story = story
        self._seed = seed
        self.machine: Machine | None = None
        self.world: World | None = None
        self._folder: Path | None = None

    def scheduler(self, loop: Any) -> _Scheduler:
        """Return the scheduler of a loop."""
        return _Scheduler(loop, self)

    def enter(self, host: Any) -> None:
        """Make a host's machine the one whose step runs."""
        if self.machine is None or self.machine.host is not host:
            self.machine = self._find(host)
            if self.machine is not None and self.machine.disk.folder is not self._folder:
                self._folder = self.machine.disk.folder
                os.environ["PRIMEPODS_STATE_DIR"] = str(self._folder)

    def _find(self, host: Any) -> Machine | None:
        world = self.world
        return None if world is None else next((m for m in world.machines if m.host is host), None)

    # What the operating system does for the machine whose step runs.

    def fsync(self, descriptor: int) -> None:
        """Sync a file, and note that."""
        _FSYNC(descriptor)
        if self.machine is not None:
            self.machine.disk.note_sync(descriptor)

    def flock(self, descriptor: int, operation: int) -> None:
        """Lock a file, and note by whom."""
        _FLOCK(descriptor, operation)
        if self.machine is not None:
            self.machine.world.locks[descriptor] = self.machine

    def getpid(self) -> int:
        """Return the pid."""
        return _GETPID() if self.machine is None else self.machine.pid

    def gethostname(self) -> str:
        """Return the name."""
        return "nowhere" if self.machine is None else self.machine.hostname

    def kill(self, pid: int, number: int) -> None:
        """Send a signal."""
        if self.world is not None:
            self.world.send_signal(pid, number)

    async def start_ssh(self, make: Callable[[], Any], *argv: str, **options: Any) -> Any:
        """Start the only program that machines run: see :func:`start_ssh`."""
        assert self.machine is not None
        return await start_ssh(self.machine, make, *argv, **options)

    def popen(self, argv: list[str], **options: Any) -> RunProcess:
        """Start the process of a detached run."""
        assert self.machine is not None
        return RunProcess(self.machine, argv, **options)

    async def __call__(self, sim: Any) -> None:
        """Tell the story, and finish it."""
        self.machine = self._folder = None
        folder = Path(tempfile.mkdtemp(prefix="world-", dir=_MEMORY))
        world = self.world = World(sim, self._seed, folder)
        logger, listener = logging.getLogger("primepods"), Listener(world.told)
        logger.addHandler(listener)
        loop: Any = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_unhandled)
        try:
            with redirect_stderr(Stderr(world.told)):
                await self._story(world)
                await world.finish()
        finally:
            logger.removeHandler(listener)
            # What ended processes still try when simloom cancels their tasks shows nothing.
            loop.haste = _HASTE
            for machine in world.machines:
                machine.disk.close()
                machine.bury()
            shutil.rmtree(folder, ignore_errors=True)

    def _on_unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        # Nobody closes the sessions of a process that was killed.
        is_unclosed = str(context.get("message", "")).startswith("Unclosed ")
        has_crashed = self.world is not None and self.world.has_crashed
        if not (is_unclosed and has_crashed) and not _is_known(context.get("exception")):
            loop.default_exception_handler(context)


def _is_known(error: object) -> bool:
    """Return whether an error is one of aiohttp's server, which asyncio's own order of callbacks keeps away.

    Its connection is lost after data has come, and before the task that waits for the data has run.
    """
    if not isinstance(error, TypeError) or error.__traceback__ is None:
        return False
    code = error.__traceback__.tb_frame.f_code
    return code.co_name == "start" and code.co_filename.endswith("aiohttp/web_protocol.py")


class _OrderedSet(dict[Any, None]):
    """A set whose order is that of addition, in which libraries then close connections and cancel tasks."""

    add = dict.setdefault
    remove = dict.__delitem__

    def discard(self, member: Any) -> None:
        """Remove a member, if it is one."""
        self.pop(member, None)


async def _run_in_thread(function: Callable[..., Any], arguments: tuple[Any, ...], **_: Any) -> Any:
    """Run a function at another step of the loop, in place of a thread; a reader of `ssh` after its end."""
    await asyncio.sleep(0)
    for session in getattr(function, "args", ()):
        if isinstance(session, Session):
            await session._process.wait()
    return function(*arguments)


@contextmanager
def _environment(play: _Play, real_limit: float = REAL_LIMIT, *, keeps_log: bool = False) -> Generator[None]:
    """Have the machines differ in what the operating system tells them; bound the real time."""
    calls = itertools.count()

    def stop(*_: object) -> None:
        raise HungError(f"the world does not return to its loop for {real_limit:.0f} real seconds")

    with ExitStack() as stack:
        # Any name but `ssh`, which is asked whether it is installed.
        stack.enter_context(patch.dict(os.environ, PRIMEPODS_SSH_COMMAND="sh"))
        for module, name, function in (
            (os, "fsync", play.fsync),
            (os, "getpid", play.getpid),
            (os, "kill", play.kill),
            (os, "killpg", play.kill),
            (fcntl, "flock", play.flock),
            (socket, "gethostname", play.gethostname),
            (subprocess, "Popen", play.popen),
            # Nothing changes while it sleeps, since there are no threads.
            (time, "sleep", lambda _: None),
            (_asyncio.AsyncIOBackend, "run_sync_in_worker_thread", _run_in_thread),
            # aiohttp has bound `time.monotonic` before simloom replaces it. It compares differences with a
            # nanosecond, so two calls at one virtual time must differ by more.
            (aiohttp.connector, "monotonic", lambda: time.monotonic() + next(calls) * 1e-8),
            *((module, "set", _OrderedSet) for module in (aiohttp.connector, asyncio.taskgroups, _asyncio)),
            (simloom._run, "SimLoop", Loop),
            (Loop, "keeps_log", keeps_log),
            # What only a comparison of two runs reads.
            *([] if keeps_log else [(EventLog, "emit", lambda *_, **__: None)]),
        ):
            stack.enter_context(patch.object(module, name, function))
        # What the programs of a world write when it has ended.
        stack.enter_context(redirect_stderr(io.StringIO()))
        for number in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.getsignal(number))
        stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, stop))
        stack.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, real_limit, 10.0)
        yield


def run(story: Story, seed: int, *, check_determinism: bool = False) -> tuple[Any, World | None]:
    """Run one world; return simloom's result, and the world as it was at its end."""
    play = _Play(story, seed)
    with _environment(play, keeps_log=check_determinism):
        result = simloom.run(
            play,
            seed=seed,
            scheduler=play.scheduler,
            raise_on_error=False,
            check_determinism=check_determinism,
            **_OPTIONS,
        )
    return result, play.world


def shrink(story: Story, seed: int, failed: Any, seconds: float = SHRINK_SECONDS) -> tuple[str, World | None]:
    """Return the description of a shorter schedule that fails as a result does, and its world.

    Args:
        story: Its story.
        seed: Its seed.
        failed: The result.
        seconds: Real seconds after which no shorter one is tried, except for the first few.
    """
    play = _Play(story, seed)
    kind = _kind(failed.error)
    ends_at = time.monotonic() + SHRINK_SECONDS
    runs = 0

    def is_same(candidate: Any) -> bool:
        nonlocal runs
        runs += 1
        return _kind(candidate.error) == kind

    failed = replace(failed, scheduler=play.scheduler)
    with _environment(play, REAL_LIMIT + 2 * SHRINK_SECONDS):
        # In small steps, since simloom bounds the number of runs, and a run may take long.
        while True:
            shrunk = simloom.shrink(play, failed, max_runs=_SHRINK_STEP, interesting=is_same, **_OPTIONS)
            if len(shrunk.tape) == len(failed.tape) or time.monotonic() > ends_at:
                break
            failed = replace(shrunk.result, scheduler=play.scheduler)
        simloom.replay(play, tape=shrunk.tape, scheduler=play.scheduler, raise_on_error=False, **_OPTIONS)
    return str(shrunk.describe()), play.world


def _kind(error: BaseException | None) -> tuple[str, str]:
    return type(error).__name__, error.invariant if isinstance(error, BrokenInvariantError) else ""
