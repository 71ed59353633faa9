"""Budget of agents: one file for all sessions that share a state folder.

A session reserves the maximum cost of a run before it starts the run. After the run's pod is confirmed gone,
the next reader replaces the reserved amount with the run's cost. If the run's record was deleted, the
reserved amount counts as spent. The end of a session does not end its reservations.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from .._utils.files import append_line, has_locks, locked_file, read_objects, sync_folder
from .._utils.money import money
from ..config import lease_folder
from ..errors import BudgetExceededError, ConfigError
from ._run import Run, run_folder

_VERSION: Final = 1
_FIELDS: Final = {1: ("run", "amount", "price_hr", "at", "spent")}
"""The fields of a line, by its version."""
_TOLERANCE: Final = 1e-9
"""Tolerance for the rounding errors of sums."""


_AMOUNT: Final = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(math.inf))


@attrs.frozen(kw_only=True)
class Reservation:
    """Reserved maximum cost of a run, and its cost once its pod is gone.

    Attributes:
        run: The run's name.
        amount: The reserved maximum cost.
        price_hr: The quoted price per hour.
        at: Time of this entry, in seconds since the epoch.
        spent: The run's cost; ``None`` while its pod may be billed, or its record cannot be read.
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
        limit: Max cost of all runs together, in the API's currency.
        spent: Cost of the runs that were settled within the window.
        reserved: Max cost of the open runs, whose pods may be billed.
        price_hr: Price per hour of the open runs.
        reservations: All runs, the oldest first.
    """

    limit: float
    spent: float
    reserved: float
    price_hr: float
    reservations: tuple[Reservation, ...]

    @property
    def open(self) -> list[Reservation]:
        return [reservation for reservation in self.reservations if reservation.spent is None]

    @property
    def left(self) -> float:
        """The amount that can still be reserved."""
        return max(0.0, self.limit - self.spent - self.reserved)


class AgentBudget:
    """Spending limits of agents, with a file of reservations in the folder of leases.

    Its methods block, and may wait for other sessions: in an event loop, call them in a thread.

    Args:
        limit: Max cost of all runs together, in the API's currency.
        max_hourly: Max price per hour of all open runs together.
        window: Seconds for which the cost of a settled run counts; by default for ever.
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
        if not has_locks():
            raise ConfigError(
                "A budget needs file locks, which this system does not have: nothing can be rented."
            )
        if not (limit >= 0 and max_hourly >= 0 and window > 0):  # `not (…)` also refuses NaN
            raise ValueError(
                "limit and max_hourly must be at least 0, and window must be above 0 s, "
                f"got {limit}, {max_hourly} and {window}"
            )
        self._limit = limit
        self._max_hourly = max_hourly
        self._window = window
        self._now = now
        self.path: Path = lease_folder().absolute() / "budget.jsonl"

    def settle(self) -> Balance:
        """Settle the runs whose pods are gone, end abandoned runs, and return the balance.

        Raises:
            ConfigError: The file cannot be used.
        """
        with self._locked() as descriptor:
            return self._settle(descriptor)

    def reserve(self, run: str | None, *, amount: float, price_hr: float) -> Balance:
        """Reserve the maximum cost of a run; the reservation is on the disk when this returns.

        Args:
            run: The run's name; ``None`` only checks the limits.
            amount: The run's maximum cost.
            price_hr: The run's price per hour.

        Returns:
            The balance before the reservation.

        Raises:
            BudgetExceededError: The run would exceed a limit. Nothing was reserved.
            ConfigError: The file cannot be used.
        """
        try:
            with self._locked() as descriptor:
                balance = self._settle(descriptor)
                for per, used, more, limit, option in (
                    ("", balance.spent + balance.reserved, amount, self._limit, "--budget"),
                    (" an hour", balance.price_hr, price_hr, self._max_hourly, "--max-hourly"),
                ):
                    if used + more > limit + _TOLERANCE:
                        raise BudgetExceededError(
                            f"This run may cost up to {money(more)}{per}. The limit {option} is "
                            f"{money(limit)}{per}, of which {money(used)} is spent or reserved "
                            f"(open runs: {len(balance.open)}). Nothing was rented. Release a pod, take a "
                            f"cheaper one or fewer hours, or ask the user to raise {option}.",
                            pod_id="",
                            budget="spend" if option == "--budget" else "hourly",
                            spent=used,
                            limit=limit,
                        )
                if run is not None:
                    _append(
                        descriptor, Reservation(run=run, amount=amount, price_hr=price_hr, at=self._now())
                    )
        except ConfigError as exc:
            raise ConfigError(f"{exc} Nothing was rented.") from None
        return balance

    @contextmanager
    def _locked(self) -> Generator[int]:
        try:
            with locked_file(self.path) as descriptor:
                yield descriptor
        except OSError as exc:
            raise ConfigError(
                f"The budget {self.path} cannot be used ({exc.strerror}). Try again, make its folder "
                "writable, or set PRIMEPODS_STATE_DIR."
            ) from None

    def _settle(self, descriptor: int) -> Balance:
        entries, now = self._read(descriptor), self._now()
        for entry in entries.values():
            if entry.spent is None and (cost := _settle_run(entry, now)) is not None:
                settled = attrs.evolve(entry, spent=cost, at=now)
                # If this fails, for example because the disk is full, the next reader settles it.
                with suppress(OSError):
                    _append(descriptor, settled)
                entries[entry.run] = settled
        all_runs = tuple(entries.values())
        open_runs = [reservation for reservation in all_runs if reservation.spent is None]
        return Balance(
            limit=self._limit,
            spent=math.fsum(
                reservation.spent or 0.0 for reservation in all_runs if now - reservation.at < self._window
            ),
            reserved=math.fsum(_max_cost_by_now(run, now) for run in open_runs),
            price_hr=math.fsum(reservation.price_hr for reservation in open_runs),
            reservations=all_runs,
        )

    def _read(self, descriptor: int) -> dict[str, Reservation]:
        """Return the last entry of each run.

        Raises:
            ConfigError: A line is not a reservation, or the file is too long.
        """
        try:
            # A truncated line is not missed: no pod was ordered yet, or the earlier line still counts.
            rows = read_objects(descriptor)
            entries = [Reservation(**{name: row[name] for name in _FIELDS[row["version"]]}) for row in rows]
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"The budget {self.path} cannot be read ({type(exc).__name__}: {exc.args[0]}). Check with "
                "`primepods runs` that no run is active, then move the file away; a new one is created."
            ) from None
        return {entry.run: entry for entry in entries}


def _append(descriptor: int, entry: Reservation) -> None:
    """Append a line, and sync it and the folder."""
    append_line(descriptor, json.dumps({"version": _VERSION, **attrs.asdict(entry)}).encode())
    sync_folder(run_folder().parent)


def _max_cost_by_now(entry: Reservation, now: float) -> float:
    # If the run's process has died, the pod may run for longer than was planned.
    return max(entry.amount, entry.price_hr * max(0.0, now - entry.at) / 3600)


def _settle_run(entry: Reservation, now: float) -> float | None:
    """End the run if it is abandoned; return its cost, or ``None`` while the cost may grow or is unknown."""
    try:
        run = Run.open(run_folder() / entry.run)
        if run.state == "interrupted":
            run.abandon()
        if run.state == "ended":
            if run.record.is_released:
                cost = run.cost(entry.price_hr)
                # Add a minute, since bills are by the minute.
                return cost + entry.price_hr / 60 if cost or run.record.pod_id else 0.0
            # Something other than the run, such as a sweep, has deleted the pod, at an unknown time.
            return None if run.may_have_pod else _max_cost_by_now(entry, now)
    except FileNotFoundError:
        return entry.amount  # its record was deleted: assume the reserved amount
    except (OSError, ValueError):
        pass
    return None
