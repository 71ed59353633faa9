"""The results of a run: fetch them during and after the command, and hold the pod while one is missing."""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs

from .._utils.money import money
from .._utils.text import short_duration
from ..errors import ConnectionLostError, LoginError, PrimePodsError
from ..remote import download_first
from ._ending import CommandEnd
from ._host import RunHost
from ._run import Run

if TYPE_CHECKING:
    from ..leasing.lease import AsyncLeasedPod

_MAX_ATTEMPTS = 3
"""Max attempts in a row to fetch a result if the connection is lost."""
_MAX_RETRY_INTERVAL = 60.0
_MIN_ATTEMPTS = 4
"""Min attempts to fetch what is missing while a pod is held."""
_DEFAULT_HOLD = 3600.0
"""Seconds for which a pod without a limit is held."""
SHORT_HOLD = 600.0
"""Seconds for which a pod is held where nobody may read that, or if the command failed at once."""
_FIRST_MINUTE = 60.0
"""Seconds in which a command that fails, such as a mistyped one, has no work to lose."""
_KILO = 1000
_TEN = 10


@attrs.define
class Result:
    """One path on the pod, and what has become of it.

    Attributes:
        remote: The path as typed.
        local: The local target.
        size: Bytes of the last copy; ``None`` if there is none.
        is_missing: Whether its last state was not fetched.
        is_partial: Whether the copy lacks links that point outside of it, pipes or devices.
        has_failed_early: Whether a failure while the command ran was shown.
    """

    remote: str
    local: str
    size: int | None = None
    is_missing: bool = True
    is_partial: bool = False
    has_failed_early: bool = False


class Results:
    """The results of a run on one pod.

    Args:
        host: The command that executes the run.
        run: The run.
    """

    def __init__(self, host: RunHost, run: Run) -> None:
        self._host = host
        self._run = run
        is_missing = not run.record.are_fetched
        self.items: list[Result] = [Result(*pair, is_missing=is_missing) for pair in run.record.downloads]
        self.reached_at: float = time.monotonic()
        """When the pod was last reached, by the monotonic clock, or else when the run began to end."""

    @property
    def are_complete(self) -> bool:
        """Whether nothing is missing."""
        return not any(item.is_missing or item.is_partial for item in self.items)

    @property
    def _missing(self) -> list[Result]:
        return [item for item in self.items if item.is_missing]

    async def fetch_regularly(self, pod: AsyncLeasedPod, interval: float) -> None:
        """Fetch the results again and again while the command runs; show each path's first failure."""
        while True:
            await asyncio.sleep(interval)
            for item in self.items:
                await self._fetch(pod, item, is_early=True)

    async def fetch(
        self, pod: AsyncLeasedPod, command: CommandEnd | None, *, may_hold: bool, hold_after: float
    ) -> None:
        """Fetch the results; if one is missing, hold the pod and try again.

        Args:
            pod: The pod.
            command: How the command ended by itself; ``None`` if it did not.
            may_hold: Whether to hold the pod while a result is missing.
            hold_after: Seconds in which the pod may turn out to be lost, so that it is not yet held.
        """
        for item in self.items:
            item.is_missing = True
        pause = 0.0
        while True:
            for item in self._missing:
                if not await self._fetch(pod, item, is_shown=not pause):
                    break  # no login: the others would wait for one, too
            if not self._missing or not may_hold or pod.is_kept:
                break
            if time.monotonic() - self.reached_at >= self._run.record.reconnect:
                self._host.problem("the pod is not held, since it cannot be reached")
                break
            if not pause and self._run.record.hold != 0:
                await asyncio.sleep(hold_after)
            pause = pause or self._begin_hold(pod, command)
            left = (self._run.record.held_until or 0.0) - time.time()
            if left <= 0:
                break
            self._host.waiting(f"holding, {short_duration(left)} left", only_live=True)
            await asyncio.sleep(min(left, pause))
            self._host.waiting("")  # the next attempt shows its own progress
        if self._run.record.held_until is not None:
            self._run.save_or_tell(self._host.problem, held_until=None)

    def _begin_hold(self, pod: AsyncLeasedPod, command: CommandEnd | None) -> float:
        """Say why the pod is held, unless it is not; return the seconds between two attempts."""
        record, limit = self._run.record, pod.seconds_left
        failed = ""
        if command is not None and command.exit_code and (command.seconds or 0.0) < _FIRST_MINUTE:
            failed = f"The command ended with {command.describe(was_asked=False)}. "
        wanted = record.hold
        if wanted is None:
            wanted = _DEFAULT_HOLD if limit is None else limit
            wanted = min(wanted, SHORT_HOLD) if failed else wanted
        if record.held_until is not None:  # by an earlier process
            wanted = record.held_until - time.time()
        seconds = wanted if limit is None else min(wanted, limit)
        if seconds <= 0:
            return 0.0
        pause = min(_MAX_RETRY_INTERVAL, seconds / _MIN_ATTEMPTS)
        self._run.save_or_tell(self._host.problem, held_until=time.time() + seconds)
        hint = "; see --hold" if seconds == SHORT_HOLD and "--hold" not in record.typed else ""
        clock = time.strftime("%H:%M", time.localtime(time.time() + seconds))
        paths = ", ".join(item.remote for item in self._missing)
        by_hand = ", ".join(
            f"`primepods cp {self._run.name}:{item.remote} {shown_path(item.local)}`"
            for item in self._missing
        )
        here = "" if record.is_detached else "Ctrl-C here or "
        self._host.info(
            f"{failed}{pod.name} is held until {clock} ({short_duration(seconds)}{hint}), for at most "
            f"{money(pod.price_hr * seconds / 3600)}, since {paths} could not be fetched; trying again every "
            f"{short_duration(math.ceil(pause))}. By hand, in another terminal, fetch with {by_hand}, from "
            f"the right path or to another folder. {here}`primepods stop {self._run.name}` deletes the pod "
            "without it."
        )
        return pause

    async def _fetch(
        self, pod: AsyncLeasedPod, item: Result, *, is_early: bool = False, is_shown: bool = True
    ) -> bool:
        """Fetch a result, or show why that fails; return whether the pod has accepted the login."""
        has_answered = True
        try:
            item.size = await self._download(pod, item, is_early=is_early)
        except (PrimePodsError, OSError) as exc:
            has_answered = not isinstance(exc, ConnectionLostError | LoginError)
            # The verdict says that a limit has cut a copy.
            if is_shown and pod.seconds_left != 0.0 and not (is_early and item.has_failed_early):
                item.has_failed_early = is_early
                self._host.problem(exc)
            # Another attempt would leave the same links out.
            item.is_partial = str(exc).startswith("Copied ")
            item.is_missing = not item.is_partial
            if item.is_partial and item.size is None:
                item.size = 0
        else:
            item.is_missing = item.is_partial = False
            if not is_early:
                self._host.info(f"✓ Downloaded {item.remote} to {shown_path(item.local)}")
        if has_answered:
            self.reached_at = time.monotonic()
        return has_answered

    async def _download(self, pod: AsyncLeasedPod, item: Result, *, is_early: bool) -> int:
        """Copy a result here, completely or not at all; return its size."""
        size, sources = 0, self._run.record.sources(item.remote)
        # Other items may have left files there.
        since = f".primepods/jobs/{self._run.job_name}/command" if self._run.record.pods else ""
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            try:
                with nullcontext() if is_early else self._host.progress(f"downloaded {item.remote}") as show:

                    def note(copied: int) -> None:
                        nonlocal size
                        size = copied
                        if show is not None:
                            show(copied)

                    await download_first(pod, sources, item.local, on_progress=note, since=since)
            except ConnectionLostError as exc:
                if is_early or not attempts_left or pod.seconds_left == 0.0:
                    raise
                self._host.problem(f"{exc} Trying again.")
            else:
                break
        return size

    def describe(self, why_missing: str) -> str:
        """Return sentences for the verdict: where the results are, and which are missing.

        Args:
            why_missing: Phrase that says why; empty if the reason was shown.
        """
        whole = [
            shown_path(item.local)
            + ("" if item.size is None else f" ({short_size(item.size)}{', incomplete' * item.is_partial})")
            for item in self.items
            if not item.is_missing
        ]
        missing = [
            item.remote if item.size is None else f"the last state of {item.remote}"
            for item in self.items
            if item.is_missing
        ]
        sentences = [f"Results in {', '.join(whole)}"] if whole else []
        if missing:
            sentences.append(f"Not fetched: {', '.join(missing)}{why_missing and f' ({why_missing})'}")
        return ". ".join(sentences)


def short_size(size: float) -> str:
    """Format a number of bytes: ``12 kB``, ``3.4 GB``."""
    units = ["byte" if size == 1 else "bytes", "kB", "MB", "GB", "TB"]
    while size >= _KILO and len(units) > 1:
        size, units = size / _KILO, units[1:]
    digits = int(size < _TEN and not units[0].startswith("byte"))
    return f"{size:.{digits}f} {units[0]}"


def shown_path(path: str) -> str:
    """Return a local path for messages, as short as it can be; keep a slash at its end."""
    try:
        shown = min(os.path.relpath(path), os.path.normpath(path), key=len)
    except OSError:  # the current folder was deleted
        return path
    return shown + ("/" if path.endswith("/") else "")
