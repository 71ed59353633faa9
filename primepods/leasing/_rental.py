"""One order of a lease: order a pod, find out whether it is ours, and delete it.

``.github/CONTRIBUTING.md`` has the table of the transitions between the states of :class:`OrderState`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Self

import attrs

from .. import errors
from .._utils.clock import Clock, Timeout, doubled
from .._utils.gpu_names import CPU_NODE
from .._utils.unique_names import is_same_name, unique_name
from ..config import lease_folder
from ..errors import PrimePodsError
from ..models import Pod, PodChange
from ..remote import AsyncRemote, HostEntry, note_hosts, run_check, start_watchdog, wait_for_login
from ..specs import PodSpec
from ..waiting.subscription import APPEAR_GRACE
from ._lease_record import as_time, new_record, this_process
from ._order import UNKNOWN_ID_REASONS, OrderState, PodOrder
from .ledger import LeaseFile
from .pods_api import (
    LIST_TIMEOUT,
    BareRow,
    LeaseOptions,
    ListedPod,
    TeamClient,
    expiry_after,
    find_named,
    has_ended,
    read_ended_pods,
)

_log = logging.getLogger("primepods")

# Min seconds between two warnings about failed requests of an order.
_LOG_INTERVAL: Final = 60.0
# Min seconds between two interruptions. Closer ones count as one, because the end of a loop cancels all tasks
# of a lease together.
_MIN_INTERRUPTION_INTERVAL: Final = 0.05
# Max seconds to confirm that a pod is gone after an interruption, and max seconds between polls meanwhile.
_HURRIED_TIMEOUT: Final = 10.0
_HURRIED_INTERVAL: Final = 1.0
# Seconds after which an accepted deletion is first sent again: the API may have lost it (imagined).
_RESEND_AFTER: Final = 60.0
# Seconds between two GETs of a pod that is taken over and may not have appeared yet.
_LOOK_AGAIN_AFTER: Final = 2.0
_MIN_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 10.0


class ReleaseInterruptions:
    """Interruptions of a lease while it gives its pods back.

    Attributes:
        count: How many were counted.
        hurried_at: Time of the last counted one; infinity before the first.
    """

    def __init__(self, clock: Clock) -> None:
        self.count: int = 0
        self.hurried_at: float = math.inf
        self._clock = clock
        # Time of `begin_ending`, or of the last interruption, new or not.
        self._last_at = -math.inf
        # Timeout of the current wait for the end of a pod.
        self._confirmation: Timeout | None = None

    def begin_ending(self) -> None:
        """Note that the block or the lease must end: an interruption at the same moment is not new."""
        self._last_at = self._clock.time()

    def is_new(self) -> bool:
        """Return whether the present interruption does not follow another, or ``begin_ending``, at once."""
        now, previous = self._clock.time(), self._last_at
        self._last_at = now
        return now - previous >= _MIN_INTERRUPTION_INTERVAL

    def add(self) -> bool:
        """Count an interruption unless it follows another at once; return whether it is the first counted."""
        if not self.is_new():
            return False
        now = self._clock.time()
        self.count, self.hurried_at = self.count + 1, now
        if self._confirmation is not None:
            # End the current wait; the next one polls more often. RuntimeError: it has ended already.
            with suppress(RuntimeError):
                self._confirmation.reschedule(now)
        return self.count == 1

    def timeout_at(self, when: float) -> Timeout:
        """Return a timeout that the next interruption ends early."""
        self._confirmation = self._clock.timeout_at(when)
        return self._confirmation


class Rental(PodOrder):
    """One order, from the choice of its name until the end of its release.

    All pods that the list shows with its unique name belong to it.
    """

    def __init__(self, client: TeamClient, spec: PodSpec, options: LeaseOptions, file: LeaseFile) -> None:
        super().__init__(spec, client.settings.clock, file)
        self.client: TeamClient = client
        self._options = options
        self._logged_at = -math.inf

    @classmethod
    async def prepare(cls, client: TeamClient, spec: PodSpec, options: LeaseOptions) -> Self:
        """Return an order with a unique name, and with a file that is not written yet.

        Raises:
            ConfigError: There is no folder for the file.
            PrimePodsError: ``max_hours`` is set, and the server's time is unknown.
        """
        prefix = spec.name or "primepods"
        expires_at = await expiry_after(options.max_hours, client.pods, client.server_clock)
        name = unique_name(prefix, client.settings.clock.random, expires_at)
        if not name.startswith(prefix):
            text = "the pod's name shortens %r to at most 63 characters, with one hyphen before the suffix"
            _log.info(text, prefix)
        _log.info("leasing a pod: its name is %r", name, extra={"pod_name": name})
        record = new_record(name, client.settings, client.server_clock.now())
        return cls(client, attrs.evolve(spec, name=name), options, LeaseFile.new(lease_folder(), record))

    def restore(self) -> None:
        """Restore the order of a dead process from its file."""
        record = self.file.record
        self.pod_id = record.pod_id
        self.state = OrderState.SENT if record.pod_id is None else OrderState.UNPROVEN
        self.note_price(record.price_hr)
        self.is_kept = record.is_kept
        self._count_from(record.ordered_at)

    async def resume(self, *, was_shown: bool) -> None:
        """Take over the pod of a lease whose process has died. Time and cost count from the order.

        Args:
            was_shown: Whether the API has ever shown the pod. If not, it may still appear.

        Raises:
            CreateUncertainError: The file has no id, and no pod with the name was found.
            PrimePodsError: The pod is gone or has not appeared, or the API does not respond.
        """
        record = self.file.record
        await self._update_file(given_up=False, **this_process())
        if self.pod_id is None:
            found, shown = await find_named(self.client.listed, record.name, self._clock)
            if not found:
                self.state = OrderState.UNCERTAIN
                raise errors.CreateUncertainError(
                    f"It is unknown whether pod {record.name!r} exists. The process that ordered it has "
                    f"died, and {shown}. `primepods sweep` deletes it if it appears.",
                    name=record.name,
                )
            self.pod_id, self.state = found[0].id, OrderState.UNPROVEN
            # `_note_id` would record the time of a new order.
            await self._update_file(pod_id=self.pod_id)
        while self.pod is None:
            try:
                self.pod = await self.client.pods.get(str(self.pod_id))
            except errors.NotFoundError:
                if was_shown or self._clock.boottime() - self.ordered_at >= APPEAR_GRACE:
                    raise
                await self._clock.sleep(_LOOK_AGAIN_AFTER)
            self._count_from(record.ordered_at)  # again, as the server's time is known now
        self.note_price(self.pod.price_hr)

    def _count_from(self, ordered_at: datetime) -> None:
        now = self.client.server_clock.now() or self._clock.wall()
        self.ordered_at = self._clock.boottime() - max(0.0, now - ordered_at.timestamp())

    async def order(self) -> None:
        """Order the pod, and record its id.

        Raises:
            CreateUncertainError: A pod may have been created; the release deletes it if the list shows it.
            PrimePodsError: No pod was created.
        """
        self.ordered_at = self._clock.boottime()
        self.state = OrderState.SENT
        try:
            # Any other pod, if a gateway has sent the order twice (imagined), is deleted as a same-named pod.
            self.pod = (await self.client.order(self.spec, self._note_id))[0]
        except errors.CreateUncertainError:
            if self.pod_id is None:
                self.state = OrderState.UNCERTAIN
            raise
        except PrimePodsError:
            self.state = OrderState.NO_POD
            self.file.remove()
            raise
        self.note_price(self.pod.price_hr)
        await self._note_id(self.pod.id)
        self.notify("LeaseStarted")

    async def _note_id(self, pod_id: str) -> None:
        """Record the id from a response that has the order's unique name."""
        self.pod_id, self.state = pod_id, OrderState.UNPROVEN
        # The server's time may have been unknown when the file was written.
        now = self.client.server_clock.now()
        ordered_at = self.file.record.ordered_at if now is None else as_time(now)
        await self._update_file(pod_id=pod_id, price_hr=self.price_hr, ordered_at=ordered_at)

    async def _update_file(self, **changes: Any) -> None:
        await asyncio.to_thread(self.file.update, **changes)

    async def make_ready(
        self, on_change: Callable[[PodChange], Awaitable[None]], seconds_left: Callable[[], float]
    ) -> list[ListedPod]:
        """Wait until the ordered pod can be used; return the list that was read to identify it.

        Args:
            on_change: Called with each change of the pod.
            seconds_left: Returns the seconds until the lease's limit, for the watchdog.

        Raises:
            PrimePodsError: The pod cannot be used, or is not the ordered one.
        """

        async def note_change(change: PodChange) -> None:
            self.note_status(change.after)
            await on_change(change)

        options, response_id = self._options, self.pod_id
        self.check_price(options.max_spend)
        ends_at = self._clock.time() + options.ready_timeout
        await self._check_id()
        while True:
            if self.pod_id is None:
                found, _ = await find_named(self.client.listed, self.name, self._clock)
                if not await self._take_listed(found):
                    raise errors.ProtocolError(
                        f"The response to the order of pod {self.name!r} has the id {response_id}, but the "
                        "API shows that pod with another name, or none. It is neither used nor deleted. The "
                        "ordered pod was not found by its name; the lease searches the list again.",
                        method="POST",
                        url_path="/api/v1/pods/",
                    )
            pod_id = str(self.pod_id)
            try:
                status = await self.client.pods.wait_ready(
                    pod_id,
                    timeout=max(0.001, ends_at - self._clock.time()),
                    interval=options.interval,
                    on_change=note_change,
                )
            except (errors.NotFoundError, errors.WaitError):
                if not await self._take_listed():
                    raise
                continue
            self.note_status(status)
            self.check_price(options.max_spend)
            listed = await self._identify(max(ends_at, self._clock.time() + LIST_TIMEOUT))
            if self.pod_id == pod_id:
                break
        if self.state is OrderState.ENDED:
            raise self.failed_error("cannot be used", "it was ready, and has ended", is_gone=True)
        if not status.ssh:
            raise self.failed_error("cannot be used", "it is ready, but has no address to log in to")
        _log.info("%s is ready: %s", self.label, status.ssh)
        nodes = tuple(node.ssh for node in status.nodes)
        note_hosts([HostEntry(pod_id, self.name, nodes)], in_thread=True)
        if options.login:
            remote = AsyncRemote(pod_id, status.nodes, options.ssh)
            await wait_for_login(remote)
            _log.info("%s accepts the login", self.label)
            if options.watchdog is not None:
                reason = await start_watchdog(remote, options.watchdog, self.client.settings, seconds_left())
                if reason:
                    raise self.failed_error("cannot be used", reason)
            if options.check is not None:
                gpu_count = 0 if self.spec.gpu_type == CPU_NODE else self.spec.gpu_count
                has_passed, said = await run_check(remote, options.check, gpu_count, options.check_timeout)
                if not has_passed:
                    raise self.failed_error("cannot be used", f"its check failed: {said}")
                _log.log(logging.WARNING if said else logging.INFO, "Pod %s: %s", self.name, said)
        return listed

    def failed_error(self, problem: str, reason: str, *, is_gone: bool = False) -> errors.PodFailedError:
        """Return the error of a pod that its block cannot use, or not any more."""
        pod_id, status = str(self.pod_id), self.status
        return errors.PodFailedError(
            f"{self.label} {problem}: {reason}.",
            pod_id=pod_id,
            last=status,
            reason=reason,
            statuses={} if is_gone or status is None else {pod_id: status},
            pending=(),
        )

    async def _check_id(self) -> None:
        """Look once whether the response to the order has another pod's id, which may never become ready."""
        ends_at = self._clock.time() + LIST_TIMEOUT
        try:
            async with self._clock.timeout_at(ends_at):
                is_ours = is_same_name(self.name, (await self.client.pods.get(str(self.pod_id))).name)
        except (PrimePodsError, ValueError, TimeoutError):
            await self._take_listed()
        else:
            if not is_ours:
                await self._identify(ends_at)

    async def _take_listed(self, listed: list[ListedPod] | None = None) -> bool:
        """Use the pod that the list shows with the order's name, unless it shows the known id with it.

        Returns:
            Whether the id has changed.
        """
        if self.state not in {OrderState.UNPROVEN, OrderState.WRONG_ID}:
            return False
        if listed is None:
            listed, _ = await self.client.shared_list.read(self.client, self._clock.time() + LIST_TIMEOUT)
        named = {row.id: row for row in listed if is_same_name(self.name, row.name)}
        if not named or self.pod_id in named:
            return False
        pod_id = min(named)
        if isinstance(named[pod_id], BareRow) and self.pod is None:
            return False  # the block could not use it; the release deletes it
        _log.warning("the response to the order of %s had another id than pod %s", self.name, pod_id)
        self._unseen_id = self.pod_id
        self.pod_id, self.state, row = pod_id, OrderState.OURS, named[pod_id]
        self.pod = row if isinstance(row, Pod) else self.pod and attrs.evolve(self.pod, id=pod_id)
        self._note_others(listed)
        # `_note_id` would record the time of a new order.
        await self._update_file(pod_id=pod_id)
        return True

    async def _identify(self, ends_at: float) -> list[ListedPod]:
        """Poll until the list or ``get`` shows the pod with the known id, or the history shows its end.

        A pod with the order's unique name is ours from now on, also if its id was not known. The id of a pod
        with another name or none is forgotten.

        Returns:
            The list that was read last; empty if ``state`` was not ``UNPROVEN``.

        Raises:
            WaitTimeoutError: The pod was not identified by ``ends_at``.
        """
        if self.state is not OrderState.UNPROVEN:
            return []
        pod_id, client, failures = str(self.pod_id), self.client, 0
        problem = "is neither used nor deleted until the API shows its name"
        try:
            async with self._clock.timeout_at(ends_at):
                while True:
                    listed, _ = await client.shared_list.read(client, ends_at)
                    if await self._take_listed(listed):
                        break
                    self._note_others(listed)
                    shown = {row.id: row.name for row in listed}
                    try:
                        name = shown.get(pod_id) or (await client.pods.get(pod_id)).name
                        is_ours = is_same_name(self.name, name)
                        self.state = OrderState.OURS if is_ours else OrderState.WRONG_ID
                        break
                    except (PrimePodsError, ValueError) as exc:
                        failures += 1
                        is_missing = isinstance(exc, errors.NotFoundError)
                        # Note it first, since reading the history may take long, or tell of the pod's end.
                        self._note_failure(exc, problem, is_logged=not is_missing or failures > 1)
                        if is_missing and has_ended(self.name, pod_id, await read_ended_pods(client.pods)):
                            self.state = OrderState.ENDED
                            break
                        await self._back_off(failures, ends_at)
        except TimeoutError:
            raise errors.WaitTimeoutError(
                f"{self.label} is not used, since it may belong to somebody else. Neither the list nor `get` "
                f"has shown that it has this name{self._last_failure}.",
                statuses={} if self.status is None else {pod_id: self.status},
                pending=(pod_id,),
            ) from None
        self._last_failure = ""
        if self.state is OrderState.WRONG_ID:
            _log.warning("pod %s is not deleted, since its name is not %s", pod_id, self.name)
            self.pod = self.pod_id = None
            await self._update_file(pod_id=None)
        return listed

    async def delete_own(self, interruptions: ReleaseInterruptions) -> str | None:
        """Delete the ordered pod if it is ours; return why it may be running, or ``None``.

        :meth:`settle` reports an order without a known id.
        """
        if self.is_settled or self.is_kept:
            return None
        ends_at = self._clock.time() + self._options.release_timeout
        if self.state is OrderState.SENT:
            # No response with the id has arrived.
            found, _ = await find_named(self.client.listed, self.name, self._clock)
            self._note_others(found)
        try:
            await self._identify(ends_at)
        except PrimePodsError:
            return (
                f"its order is recorded with the id {self.pod_id}, but the API has not confirmed that "
                f"this pod has the name. Pod {self.pod_id} is not deleted, because it may belong to somebody "
                "else"
            )
        if self.state is not OrderState.OURS or self.pod_id is None:
            return None
        failure = await self._delete(self.pod_id, ends_at, interruptions)
        if failure is None:
            self.state = OrderState.ENDED
        return failure

    async def delete_others(self, listed: list[ListedPod], interruptions: ReleaseInterruptions) -> str | None:
        """Delete all other pods with the unique name; return why one may be running, or ``None``."""
        failure: str | None = None
        self._note_others(listed)
        for pod_id in sorted(self._others):
            _log.warning("deleting pod %s: it has the name %s, but is not used", pod_id, self.name)
            ends_at = self._clock.time() + self._options.release_timeout
            reason = await self._delete(pod_id, ends_at, interruptions)
            if reason is None:
                self._others.discard(pod_id)
                if self.state in UNKNOWN_ID_REASONS:
                    self.state = OrderState.ENDED
            else:
                failure = f"pod {pod_id} is not released ({reason})"
        return failure

    def _note_others(self, listed: list[ListedPod]) -> None:
        if any(row.id == self._unseen_id for row in listed):
            self._unseen_id = None
        self._others |= {row.id for row in listed if is_same_name(self.name, row.name)} - {self.pod_id}

    async def _delete(self, pod_id: str, ends_at: float, interruptions: ReleaseInterruptions) -> str | None:
        """Delete a pod and confirm that it is gone; return why it may be running, or ``None``."""
        pods, clock, interval = self.client.pods, self._clock, self._options.interval
        self._last_failure = ""
        failures, accepted_at, resend_after, is_due = 0, math.inf, _RESEND_AFTER, False

        def last_moment() -> float:
            # `_HURRIED_TIMEOUT` begins once the deletion is accepted and the release is hurried.
            return min(ends_at, max(accepted_at, interruptions.hurried_at) + _HURRIED_TIMEOUT)

        while clock.time() < last_moment():
            try:
                if is_due or accepted_at == math.inf:
                    # An interruption, or an error, ends only the repetition of an accepted DELETE.
                    is_due, guard = False, clock if accepted_at == math.inf else interruptions
                    async with guard.timeout_at(last_moment()):
                        await pods.delete(pod_id, missing_ok=True)
                    accepted_at = min(accepted_at, clock.time())
                if interruptions.hurried_at < math.inf:
                    interval = min(interval, _HURRIED_INTERVAL)
                async with interruptions.timeout_at(last_moment()):
                    await pods.wait_gone(pod_id, timeout=resend_after, interval=interval)
            except errors.WaitTimeoutError as exc:
                # Wait longer next time: under a rate limit, a new wait may need minutes to see the end. If it
                # has shown nothing, a DELETE would only take the turn of a look.
                resend_after, is_due = resend_after * 2, exc.statuses.get(pod_id) is not None
            except (PrimePodsError, ValueError) as exc:
                # ValueError: the list shows an id for which no request is possible.
                failures += 1
                self._note_failure(exc, "is not released yet")
                await self._back_off(failures, last_moment())
            except TimeoutError:
                continue  # The release was hurried, or the time is over.
            else:
                return None
        problem = "was accepted, but the pod was not gone" if accepted_at < math.inf else "was not accepted"
        return f"its deletion {problem} in time{self._last_failure}"

    def _note_failure(self, error: Exception, problem: str, *, is_logged: bool = True) -> None:
        """Record an error; log at most one in a minute."""
        self._last_failure = f"; the last failure: {str(error).rstrip('.')}"
        if is_logged and self._clock.time() >= self._logged_at + _LOG_INTERVAL:
            self._logged_at = self._clock.time()
            _log.warning("%s %s: %s", self.label, problem, error)

    async def _back_off(self, failures: int, ends_at: float) -> None:
        delay = doubled(_MIN_BACKOFF, times=failures - 1, maximum=_MAX_BACKOFF)
        await self._clock.sleep(max(0.0, min(delay, ends_at - self._clock.time())))
