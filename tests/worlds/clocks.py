"""The clocks of a world: all of them follow the simulated loop, and some are wrong."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

from primepods._utils.clock import Clock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The true time at second 0 of a world."""


def now() -> float:
    """Return seconds since the beginning of the world."""
    return asyncio.get_running_loop().time()


class MachineClock(Clock):
    """The clock of a machine, for the clients there.

    Args:
        error: Seconds by which its wall clock is wrong.
        seed: Seed of its random numbers.
    """

    def __init__(self, error: float, seed: str) -> None:
        self.error: float = error
        # The tasks of ended processes are cancelled when the world has ended, and its loop does not run.
        self._loop = asyncio.get_running_loop()
        self._rng = Random(seed)

    def boottime(self) -> float:
        """Return seconds since the beginning of the world; no machine sleeps."""
        return self._loop.time()

    def wall(self) -> float:
        """Return seconds since the epoch, as this machine has it."""
        return EPOCH.timestamp() + self.boottime() + self.error

    def random(self) -> float:
        """Return the machine's next random number."""
        return self._rng.random()


class ApiClock:
    """The clock of the API, for the emulator.

    Args:
        error: Seconds by which it is wrong.
    """

    def __init__(self, error: float) -> None:
        self.epoch: datetime = EPOCH + timedelta(seconds=error)

    def now(self) -> float:
        """Return seconds since the beginning of the world."""
        return now()

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        await asyncio.sleep(max(0.0, seconds))
