"""The budget of agents: one file for all sessions of this machine.

A session reserves the worst cost of a run before it starts it. Each later reader replaces that by the real
cost once the run's pod is confirmed gone. A session that dies at any step leaves the reservation, never less.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from ..config import lease_folder
from ..errors import BudgetExceededError, ConfigError
from ..leasing.ledger import sync_folder
from ..remote import lock_file
from ._run import Run, run_folder

_VERSION: Final = 1
_MAX_SIZE: Final = 16 << 20
_LOCK_ATTEMPTS: Final = 1_500
"""Half a minute."""
_FIELDS: Final = {1: ("run", "amount", "price_hr", "at", "spent")}
"""The fields of a line, by its version."""
_TOLERANCE: Final = 1e-9
"""For the rounding errors of sums."""


_AMOUNT: Final = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(math.inf))


@attrs.frozen(kw_only=True)
class Reservation:
    """What a run may cost, and once its pod is gone, what it has cost.

    Attributes:
        run: The run's name.
        amount: Its worst cost.
        price_hr: The quoted price per hour.
        at: When this was written, in seconds since the epoch.
        spent: Its cost; ``None`` while its pod may be billed.
    """

    run: str = attrs.field(validator=attrs.validators.instance_of(str))
    amount: float = attrs.field(validator=_AMOUNT)
    price_hr: float = attrs.field(validator=_AMOUNT)
    at: float = attrs.field(validator=_AMOUNT)
    spent: float | None = attrs.field(default=None, validator=attrs.validators.optional(_AMOUNT))


@attrs.frozen(kw_only=True)
class Balance:
    """State of a budget.

    Attributes:
        limit: The most that all runs may cost, in the API's currency.
        spent: What ended runs have cost, within the window.
        reserved: What open runs may cost: those whose pods may be billed.
        price_hr: What open runs cost an hour.
        reservations: All runs, the oldest first.
    """

    limit: float
    spent: float
    reserved: float
    price_hr: float
    reservations: tuple[Reservation, ...]

    @property
    def open(self) -> list[Reservation]:
        """The open runs."""
        return [reservation for reservation in self.reservations if reservation.spent is None]

    @property
    def left(self) -> float:
        """What may still be reserved."""
        return max(0.0, self.limit - self.spent - self.reserved)


class Budget:
    """Limits of what agents rent, on one file in the folder of leases.

    Its calls read and write files, and may wait for other sessions: in an event loop, call them in a thread.

    Args:
        limit: The most that all runs may cost, in the API's currency.
        max_hourly: The most that all open runs may cost an hour.
        window: Seconds for which the cost of an ended run counts; by default for ever.
        now: Returns seconds since the epoch.
    """

    def __init__(
        self,
        limit: float,
        *,
        max_hourly: float = math.inf,
        window: float = math.inf,
        now: Callable[[], float] = time.time,
    ) -> None:
        if os.name == "nt":
            raise ConfigError(
                "A budget needs file locks, which this system does not have: nothing can be rented."
            )
        if not (limit >= 0 and max_hourly >= 0 and window > 0):  # as for NaN
            raise ValueError(
                f"the limits of a budget must be amounts, got {limit}, {max_hourly} and {window}"
            )
        self._limit = limit
        self._max_hourly = max_hourly
        self._window = window
        self._now = now
        self.path: Path = lease_folder().absolute() / "budget.jsonl"

    def read(self) -> Balance:
        """Settle the runs whose pods are gone, and return the balance.

        Raises:
            ConfigError: The file cannot be used.
        """
        with self._locked() as descriptor:
            return self._settle(descriptor)

    def reserve(self, run: str | None, *, amount: float, price_hr: float) -> Balance:
        """Reserve the worst cost of a run; it is on the disk when this returns.

        Args:
            run: The run's name; ``None`` only checks the limits.
            amount: Its worst cost.
            price_hr: Its price per hour.

        Returns:
            The balance before.

        Raises:
            BudgetExceededError: It would exceed a limit. Nothing was reserved.
            ConfigError: The file cannot be used.
        """
        with self._locked() as descriptor:
            balance = self._settle(descriptor)
            for what, used, more, limit, option in (
                ("cost", balance.spent + balance.reserved, amount, self._limit, "--budget"),
                ("cost an hour", balance.price_hr, price_hr, self._max_hourly, "--max-hourly"),
            ):
                if used + more > limit + _TOLERANCE:
                    raise BudgetExceededError(
                        f"This may {what} {more:.2f}, and of {limit:.2f} ({option}) {used:.2f} is used or "
                        f"reserved for {len(balance.open)} pods. Nothing was rented. Release a pod, take a "
                        f"cheaper one or fewer hours, or ask the user to raise {option}.",
                        pod_id="",
                        budget="spend" if option == "--budget" else "hourly",
                        spent=used,
                        limit=limit,
                    )
            if run is not None:
                _append(descriptor, Reservation(run=run, amount=amount, price_hr=price_hr, at=self._now()))
        return balance

    @contextmanager
    def _locked(self) -> Generator[int]:
        descriptor = -1
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = lock_file(self.path, attempts=_LOCK_ATTEMPTS)
            # Of a file that was removed meanwhile, the lock says nothing.
            if descriptor < 0 or os.fstat(descriptor).st_nlink == 0:
                raise BlockingIOError(errno.EAGAIN, "others use it, or it was just removed")
            yield descriptor
        except OSError as exc:
            raise ConfigError(
                f"The budget {self.path} cannot be used ({exc.strerror}): nothing was rented. Try again, "
                "make its folder writable, or set PRIMEPODS_STATE_DIR."
            ) from None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _settle(self, descriptor: int) -> Balance:
        entries = self._parse(os.pread(descriptor, _MAX_SIZE + 1, 0))
        for entry in entries.values():
            if entry.spent is None and (cost := _final_cost(entry, self._now())) is not None:
                settled = attrs.evolve(entry, spent=cost, at=self._now())
                # Without space on the disk, the next reader settles it.
                with suppress(OSError):
                    _append(descriptor, settled)
                entries[entry.run] = settled
        now = self._now()
        all_runs = tuple(entries.values())
        open_runs = [reservation for reservation in all_runs if reservation.spent is None]
        return Balance(
            limit=self._limit,
            spent=math.fsum(
                reservation.spent or 0.0 for reservation in all_runs if now - reservation.at < self._window
            ),
            reserved=math.fsum(_worst_cost(run, now) for run in open_runs),
            price_hr=math.fsum(reservation.price_hr for reservation in open_runs),
            reservations=all_runs,
        )

    def _parse(self, text: bytes) -> dict[str, Reservation]:
        """Return the last line of each run.

        Raises:
            ConfigError: The file has a line that no session has written, or is too long.
        """
        entries: dict[str, Reservation] = {}
        problem = f"it is longer than {_MAX_SIZE} bytes" if len(text) > _MAX_SIZE else None
        for line in text.split(b"\n"):
            # A line is cut, or zeros, if its process died while it wrote: before an order, or with the
            # reservation left in place.
            stripped = line.strip(b"\0 \r\t")
            if stripped.startswith(b"{") and not stripped.endswith(b"}"):
                continue
            try:
                if stripped:
                    data = json.loads(stripped)
                    entry = Reservation(**{name: data[name] for name in _FIELDS[data["version"]]})
                    entries[entry.run] = entry
            except (KeyError, TypeError, ValueError) as exc:
                problem = f"a line of it is not a reservation: {type(exc).__name__}"
        if problem is not None:
            raise ConfigError(
                f"The budget {self.path} cannot be read ({problem}): nothing was rented. When nothing it "
                "has reserved is running (see primepods runs), move it away to begin a new one."
            )
        return entries


def _append(descriptor: int, entry: Reservation) -> None:
    """Add a line, and wait until it is on the disk; it begins with a break, so a cut line spoils no other."""
    line = b"\n" + json.dumps({"version": _VERSION, **attrs.asdict(entry)}).encode()
    if os.pwrite(descriptor, line, os.fstat(descriptor).st_size) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
    sync_folder(run_folder().parent)


def _worst_cost(entry: Reservation, now: float) -> float:
    """Return what a run may have cost by now: a pod whose process has died may outlive its expiry."""
    return max(entry.amount, entry.price_hr * max(0.0, now - entry.at) / 3600)


def _final_cost(entry: Reservation, now: float) -> float | None:
    """Return what a run has cost; ``None`` while its pod may be billed."""
    try:
        run = Run.open(run_folder() / entry.run)
        if run.state == "interrupted":
            run.abandon()
        if run.state == "ended":
            if run.record.is_released:
                # Bills are by the minute.
                cost = run.cost(entry.price_hr)
                return cost + entry.price_hr / 60 if cost or run.record.pod_id else 0.0
            # Deleted by a sweep, at an unknown time.
            return None if run.may_have_pod else _worst_cost(entry, now)
    except FileNotFoundError:
        return entry.amount  # its record was deleted: it may have cost as much
    except (OSError, ValueError):
        pass
    return None
