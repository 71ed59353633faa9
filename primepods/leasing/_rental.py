"""One order of a lease: its unique name, its file, its pods, their cost and their deletion."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, Final, Literal

import attrs

from .._operations import LISTENERS
from .._utils.clock import Timeout, doubled
from .._utils.money import money
from .._utils.unique_names import is_same_name, unique_name
from ..errors import (
    BudgetExceededError,
    CreateUncertainError,
    NotReleasedError,
    PriceTooHighError,
    PrimePodsError,
    WaitTimeoutError,
)
from ..models import Pod, PodStatus
from ..remote import note_hosts
from ..specs import PodSpec
from ._record import as_time, new_record
from .ledger import LeaseFile
from .pods_api import Account, LeaseOptions, ListedPod, find_named, has_ended, read_ended_pods
from .server_time import expiry_after

_log = logging.getLogger("primepods")

# Seconds to confirm that a pod is gone, after the release was interrupted.
_HURRIED_TIMEOUT: Final = 10.0
_HURRIED_INTERVAL: Final = 1.0
# Seconds after which an accepted deletion is first sent again, if the pod is neither deleting nor terminated.
_RESEND_AFTER: Final = 60.0
_MAX_BACKOFF: Final = 10.0
# Min seconds between two log messages about a pod that cannot be used or released.
_LOG_INTERVAL: Final = 60.0
_UNCERTAIN: Final = "its order got no conclusive response"
_INTERRUPTED: Final = "its order was interrupted"
_ANOTHER: Final = "the response to its order had the id of another pod"


class Rental:
    """One order, from its name until its pods are confirmed terminated.

    All pods that the list shows with its unique name are its own: several if a gateway repeats the order.

    Args:
        account: The account that orders the pod.
        spec: The pod to order; its name gets a suffix.
        options: The parameters of the lease.

    Attributes:
        account: The account that orders the pod.
        spec: The ordered pod.
        pod_id: The id in the response to the order, or of the pod that was found by name; ``None`` if it is
            unknown or another's. It is used once the list or ``get`` has shown it with the unique name.
        pod: The pod as ordered.
        status: The pod's last status.
        file: The lease file; ``None`` before it is written.
        release_error: The error that says why the pod may still be running, or ``None``.
        is_settled: Whether the release is done.
    """

    def __init__(self, account: Account, spec: PodSpec, options: LeaseOptions) -> None:
        self.account = account
        self.spec: PodSpec = spec
        self.pod_id: str | None = None
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.file: LeaseFile | None = None
        self.release_error: NotReleasedError | None = None
        self.is_settled: bool = False
        self._options = options
        self._clock = account.settings.clock
        self._ordered_at: float | None = None
        # Why it is unknown which pod is the order's, for messages; empty if it is known, or there is none.
        self._doubt = ""
        self._shown = "the list does not show it"
        self._is_identified = False
        # Ids of other pods with the unique name that are not confirmed gone yet.
        self._others: set[str] = set()
        self._highest_price: float | None = None
        self._final_spent: float | None = None
        self._is_kept = False
        self._failure: str | None = None
        self._limit: Timeout | None = None
        self._patience: Timeout | None = None
        self._ends_at = math.inf
        self._accepted_at = math.inf
        self._hurried_at = math.inf
        self._logged_at = -math.inf
        self._last_failure = ""
        self._listeners = LISTENERS.get()

    async def prepare(self) -> LeaseFile:
        """Choose the name, and write and return the file.

        Raises:
            ConfigError: The folder cannot be written.
            ProtocolError: The server's time, for the expiry in the name, is not confirmed.
        """
        account, beginning = self.account, self.spec.name or "primepods"
        expires_at = await expiry_after(
            self._options.max_hours,
            pods=account.pods,
            server_clock=account.server_clock,
            clock=self._clock,
        )
        name = unique_name(beginning, self._clock.random, expires_at)
        if not name.startswith(beginning):
            _log.info("the name %r is shortened: with its suffix it would exceed 63 characters", beginning)
        _log.info("leasing a pod: its name is %r", name, extra={"pod_name": name})
        self.spec = attrs.evolve(self.spec, name=name)
        record = new_record(name, account.settings, account.server_clock.now())
        # Before it is written: if this is interrupted, the release removes the file, whose thread goes on.
        self.file = LeaseFile.new(account.folder, record)
        await asyncio.to_thread(self.file.write)
        return self.file

    async def resume(self, file: LeaseFile) -> None:
        """Take over the pod of a lease whose process has died; its time and cost count from its order.

        Raises:
            CreateUncertainError: Its order got no response, and no pod has its name.
            PrimePodsError: The pod is gone, or the API does not respond.
        """
        record = file.record
        self.pod_id = record.pod_id
        self.note_price(record.price_hr)
        own = new_record(record.name, self.account.settings)
        await self._update_file(
            given_up=False,
            **{
                name: getattr(own, name)
                for name in ("host", "boot_id", "pid_namespace", "pid", "process_start")
            },
        )
        if self.pod_id is None:
            found, shown = await find_named(self.account.listed, record.name, self._clock)
            if not found:
                self._doubt = _UNCERTAIN
                raise CreateUncertainError(
                    f"Whether pod {record.name!r} exists is unknown: the process that ordered it has died, "
                    f"and {shown}. `primepods sweep` deletes it if it appears.",
                    name=record.name,
                )
            self._others |= {row.id for row in found[1:]}
            self.pod_id = found[0].id
            # Not `_note_id`, whose time is that of a new order.
            await self._update_file(pod_id=self.pod_id)
        self.pod = await self.account.pods.get(str(self.pod_id))
        now = self.account.server_clock.now() or self._clock.wall()
        self._ordered_at = self._clock.boottime() - max(0.0, now - record.ordered_at.timestamp())
        self.note_price(self.pod.price_hr)

    async def order(self) -> None:
        """Order the pod, and record its id.

        Raises:
            CreateUncertainError: A pod may have been created; the release deletes it if it appears.
            PrimePodsError: Any other error: no pod was created.
        """
        self._ordered_at = self._clock.boottime()
        self._doubt = _INTERRUPTED
        try:
            # Any of several is ours; the release deletes all.
            pod = (await self.account.order(self.spec, self._note_id))[0]
        except CreateUncertainError:
            self._doubt = "" if self.pod_id else _UNCERTAIN
            raise
        except PrimePodsError:
            self._doubt = ""
            self._remove_file()
            raise
        self.pod = pod
        self.note_price(pod.price_hr)
        await self._note_id(pod.id)
        self.notify("LeaseStarted")

    async def _note_id(self, pod_id: str) -> None:
        """Record the id in a response that has the order's unique name."""
        self.pod_id = pod_id
        self._doubt = ""
        changes: dict[str, Any] = {"pod_id": pod_id, "price_hr": self.price_hr}
        server_time = self.account.server_clock.now()
        if server_time is not None:
            # The server's time may have been unknown when the file was written.
            changes["ordered_at"] = as_time(server_time)
        await self._update_file(**changes)

    async def _update_file(self, **changes: Any) -> None:
        if self.file is not None:
            await asyncio.to_thread(self.file.update, **changes)

    async def identify(self) -> list[ListedPod]:
        """Find out whether the id in the response to the order is ours.

        Forget it if the API shows it with another name, or with none. One that was shown with our name stays
        ours.

        Returns:
            The list that was read; empty if the id was identified before.

        Raises:
            PrimePodsError: Neither the list nor ``get`` shows the id.
        """
        if self.pod_id is None or self._is_identified:
            return []
        listed, _ = await self.account.shared_list.read(self.account)
        row: ListedPod | Pod | None = next((row for row in listed if row.id == self.pod_id), None)
        if row is None or row.name is None:
            try:
                row = await self.account.pods.get(self.pod_id)
            except (PrimePodsError, ValueError) as exc:
                raise PrimePodsError(
                    f"Neither the list nor `get` shows that pod {self.pod_id} has the name {self.name}: {exc}"
                ) from None
        self._is_identified = is_same_name(self.name, row.name)
        if not self._is_identified:
            _log.warning("pod %s has another name than %s: it is not deleted", self.pod_id, self.name)
            self.pod = self.pod_id = None
            self._doubt = _ANOTHER
            await self._update_file(pod_id=None)
        return listed

    @property
    def name(self) -> str:
        """The pod's name, which is unique once the order is prepared."""
        return self.spec.name or ""

    @property
    def label(self) -> str:
        """The pod, for messages."""
        if self.pod_id is None:
            return f"A pod named {self.name}"
        price = f"{money(self.price_hr)} an hour" if self.price_hr else "of unknown price"
        return f"Pod {self.pod_id} (name {self.name}, {price})"

    @property
    def seconds(self) -> float:
        """Seconds since the order, including those in which the machine slept."""
        return 0.0 if self._ordered_at is None else self._clock.boottime() - self._ordered_at

    @property
    def price_hr(self) -> float:
        """The highest price per hour in any response; before the first, the order's maximum price."""
        if self._highest_price is not None:
            return self._highest_price
        return self.spec.max_price or 0.0

    @property
    def spent(self) -> float:
        """Cost of the pod so far, at the highest price seen."""
        if self._final_spent is not None:
            return self._final_spent
        return 0.0 if self.pod_id is None else self.price_hr * self.seconds / 3600

    def note_price(self, price_hr: float | None) -> None:
        """Update the highest price; 0 means unknown."""
        if price_hr is not None and price_hr > 0:
            self._highest_price = max(self._highest_price or 0.0, price_hr)

    def note_status(self, status: PodStatus | None) -> None:
        """Update the status, and with its price the highest price."""
        if status is not None:
            self.status = status
            self.note_price(status.cost_per_hr)

    def check_price(self) -> None:
        """Raise an error if the pod costs more than was allowed."""
        if self.spec.is_exceeded_by(self.price_hr):
            message = f"it costs {money(self.price_hr)} an hour, more than max_price={self.spec.max_price:g}"
            raise PriceTooHighError(
                f"{self.label} was ordered, but {message}. It is deleted: take another offer, or raise "
                "max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )

    def check_budget(self) -> None:
        """Raise an error if the pod's price is unknown, so that ``max_spend`` would be no limit."""
        max_spend = self._options.max_spend
        if max_spend is not None and not self.price_hr:
            raise BudgetExceededError(
                f"{self.label} was ordered with max_spend={max_spend:g}, which is no limit without a price. "
                "It is deleted: set max_price of its spec, or take another offer.",
                pod_id=self.pod_id or "",
                budget="spend",
                spent=0.0,
                limit=max_spend,
            )

    @property
    def needs_list(self) -> bool:
        """Whether the list is needed for the release: a pod exists or may exist."""
        return self.pod_id is not None or bool(self._doubt or self._others)

    async def delete_own(self) -> None:
        """Delete the ordered pod, unless the API shows that its id is another's."""
        if self._doubt == _INTERRUPTED:
            found, self._shown = await find_named(self.account.listed, self.name, self._clock)
            self._others |= {row.id for row in found}
        if self.pod_id is not None:
            self._failure = await self._delete(self.pod_id)

    async def delete_others(self, listed: list[ListedPod]) -> str | None:
        """Delete every pod with the unique name except the ordered one; return why one may be running."""
        failure: str | None = None
        self._note_others(listed)
        for pod_id in sorted(self._others):
            _log.warning("pod %s is deleted: it is of the order %s, and not used", pod_id, self.name)
            reason = await self._delete(pod_id)
            if reason is None:
                self._others.discard(pod_id)
                self._doubt = ""
            else:
                failure = f"its pod {pod_id} is not released: {reason}"
        return failure

    def _note_others(self, listed: list[ListedPod]) -> None:
        self._others |= {row.id for row in listed if is_same_name(self.name, row.name)} - {self.pod_id}

    def settle(self, failure: str | None, *, is_searched: bool) -> None:
        """End the release: report a pod that may be running, leave the file to sweeps, or remove it.

        Args:
            failure: Why a pod may be running, or ``None``.
            is_searched: Whether the whole list was searched for other pods with the unique name.
        """
        failure = failure or self._failure
        if self._doubt in {_ANOTHER, _INTERRUPTED}:
            failure = failure or f"{self._doubt}, and {self._shown}"
        if self._final_spent is None:
            self._final_spent = self.spent
        if failure is not None:
            self.report_failure(failure)
        elif self._doubt:
            _log.warning("whether pod %r exists is unknown: `primepods sweep` looks for it", self.name)
            self._leave_to_sweep()
        elif not self.is_settled:
            if is_searched:
                self._remove_file()
            else:
                _log.warning(
                    "the list could not be read: `primepods sweep` looks for other pods named %r", self.name
                )
                self._leave_to_sweep()
            if not self._is_kept:
                if self.pod_id is not None:
                    _log.info("%s is confirmed gone, for about %s", self.label, money(self._final_spent))
                    note_hosts(removed=[self.pod_id], in_thread=True)
                self.notify("LeaseReleased", spent=self._final_spent)
        self.is_settled = True

    async def _delete(self, pod_id: str) -> str | None:
        """Delete a pod and confirm that it is gone; return why it may be running."""
        pods = self.account.pods
        failures = 0
        self._last_failure = ""
        self._ends_at = self._clock.time() + self._options.release_timeout
        self._accepted_at = math.inf
        resend_after = _RESEND_AFTER
        try:
            async with self._clock.timeout_at(self._ends_at) as self._limit:
                while True:
                    try:
                        if self._accepted_at == math.inf:
                            if self._is_doubtful(pod_id) and not await self._resolve_doubt(pod_id):
                                return None
                            await pods.delete(pod_id, missing_ok=True)
                            self._accepted_at = self._clock.time()
                            self._reschedule()
                        interval = self._options.interval
                        if self._hurried_at < math.inf:
                            interval = min(interval, _HURRIED_INTERVAL)
                        # `hurry` ends this wait, and the next one polls more often.
                        async with self._clock.timeout_at(self._ends_at) as patience:
                            self._patience = patience
                            try:
                                await pods.wait_gone(pod_id, timeout=resend_after, interval=interval)
                            finally:
                                self._patience = None
                    except WaitTimeoutError as exc:
                        # A wait begins anew, and under a rate limit it may need minutes to confirm an end.
                        resend_after *= 2
                        status = exc.statuses.get(pod_id)
                        if status is not None and not (status.status and status.status.is_ending):
                            # The API has lost the deletion that it accepted.
                            self._accepted_at = math.inf
                            self._reschedule()
                    except (PrimePodsError, ValueError) as exc:
                        # ValueError: the list shows an id for which no request is possible.
                        self.note_failure("is not released yet", exc)
                        failures += 1
                        await self._clock.sleep(doubled(0.25, times=failures, maximum=_MAX_BACKOFF))
                    except TimeoutError:
                        continue  # hurried
                    else:
                        return None
        except TimeoutError:
            if self._is_doubtful(pod_id):
                return (
                    f"the response to its order had the id {pod_id}, which neither the list nor `get` has "
                    "shown with this name: that pod may be another's, and is not deleted"
                )
            is_accepted = self._accepted_at < math.inf
            accepted = "was accepted, but it is not gone" if is_accepted else "is not accepted"
            return f"its deletion {accepted} in time{self._last_failure}"
        finally:
            self._limit = None

    def _is_doubtful(self, pod_id: str | None) -> bool:
        """Return whether nothing has shown yet that a pod has the unique name."""
        return pod_id == self.pod_id and not self._is_identified

    async def _resolve_doubt(self, pod_id: str) -> bool:
        """Find out whose pod it is; return whether it is ours, and has not ended by the history.

        Raises:
            PrimePodsError: Nothing shows whose it is.
        """
        try:
            self._note_others(await self.identify())
        except PrimePodsError:
            if has_ended(self.name, pod_id, await read_ended_pods(self.account.pods)):
                return False
            raise
        return self.pod_id is not None

    def hurry(self) -> None:
        """Limit the confirmation of an accepted deletion to 10 seconds from now, and poll every second."""
        self._hurried_at = self._clock.time()
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._hurried_at)
        self._reschedule()

    def _reschedule(self) -> None:
        """Set the end of the deletion in progress: earlier if it is accepted and was hurried."""
        if self._limit is not None and not self._limit.expired():
            hurried_end = max(self._accepted_at, self._hurried_at) + _HURRIED_TIMEOUT
            self._limit.reschedule(min(self._ends_at, hurried_end))

    def note_failure(self, problem: str, error: Exception) -> None:
        """Log why the pod is not used or released yet: the first failure, then at most one a minute."""
        self._last_failure = f"; the last failure: {str(error).rstrip('.')}"
        if self._clock.time() >= self._logged_at + _LOG_INTERVAL:
            self._logged_at = self._clock.time()
            _log.warning("%s %s: %s", self.label, problem, error)

    def give_up(self, reason: str) -> None:
        """Report that the release has ended before it was done, if a pod may run."""
        if self._is_kept and not self._others:
            self._leave_to_sweep()
        elif not self.is_settled and self.needs_list:
            self.report_failure(f"{self._doubt or reason}{self._last_failure}")

    def report_failure(self, reason: str) -> None:
        """Report that the pod may be running: as an error of the lease, in the log and to ``on_event``."""
        if self.release_error is not None:
            return
        # An unverified id is not named: the user could delete somebody else's pod.
        pod_id = None if self._is_doubtful(self.pod_id) else self.pod_id
        label, remedy = self.label, f"`client.pods.delete({pod_id!r})`"
        if pod_id is None:
            label, remedy = f"A pod named {self.name}", "look for that name in `pods.list()`"
        error = NotReleasedError(
            f"{label} may be running and billed: {reason}. `primepods sweep` removes it, or {remedy}.",
            pod_id=pod_id,
            name=self.name,
            price_hr=None if pod_id is None else self.price_hr,
        )
        self.release_error = error
        _log.error("%s", error, extra={"pod_id": pod_id, "pod_name": self.name})
        if self._listeners is not None:
            from ..events import ReleaseFailed  # noqa: PLC0415 - loaded with the first on_event

            self._listeners.notify(ReleaseFailed(pod_id=pod_id, name=self.name, price_hr=error.price_hr))
        self._leave_to_sweep()

    def keep(self) -> None:
        """Leave the pod to the user; the file stays until the list was searched for others with its name."""
        self._is_kept = True
        if self.file is not None:
            self.file.update(is_kept=True)
        self.notify("LeaseKept")

    def _remove_file(self) -> None:
        if self.file is not None:
            self.file.remove()

    def _leave_to_sweep(self) -> None:
        if self.file is not None:
            self.file.update(given_up=True)
            self.file.close()

    def notify(
        self, kind: Literal["LeaseStarted", "LeaseReady", "LeaseKept", "LeaseReleased"], **fields: float
    ) -> None:
        """Report an event of the lease to ``on_event``."""
        if self._listeners is None or self.pod is None:
            return
        from .. import events  # noqa: PLC0415 - loaded with the first on_event

        fields |= {"price_hr": self.price_hr, "seconds": self.seconds}
        self._listeners.notify(getattr(events, kind)(pod_id=self.pod.id, name=self.name, **fields))
