"""One order of a lease: its unique name, its file, its pod and its cost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final, Literal

import attrs

from .._operations import LISTENERS
from .._utils.unique_names import UniqueName, is_same_name, unique_name
from ..errors import (
    APIError,
    CreateUncertainError,
    NotReleasedError,
    PriceTooHighError,
    PrimePodsError,
    ProtocolError,
)
from ..models import Pod, PodStatus
from ..specs import PodSpec
from ._lease_file import LeaseFile
from ._record import as_time, new_record
from ._release import AnotherPodError, Release
from ._steps import INTERRUPTS, EndedError, GivenUpError, Steps, TooLateError
from .account import Account
from .options import LeaseOptions
from .pods_api import APPEARS_WITHIN, KEY_REJECTIONS, find_namesakes, is_named
from .server_time import expiring_name

_log = logging.getLogger("primepods")

_APPEARANCE_TIMEOUT: Final = 60.0
"""Max seconds from the response to an order until its pod appears in another response."""


class Rental:
    """One order, from its name until its pod is confirmed terminated.

    Args:
        account: The account that orders the pod.
        spec: The pod to order; its name gets a suffix.
        options: The parameters of the lease.
        steps: The steps of the lease.

    Attributes:
        account: The account that orders the pod.
        spec: The ordered pod.
        pod: The pod as ordered; ``None`` while its id is unknown.
        status: The pod's last status.
        file: The lease file.
        release_error: The error that says why the pod may still be running, or ``None``.
        is_refused: Whether the order was refused: a pod exists only if a gateway has sent the order twice.
    """

    file: LeaseFile

    def __init__(self, account: Account, spec: PodSpec, options: LeaseOptions, steps: Steps) -> None:
        self.spec: PodSpec = spec
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.release_error: NotReleasedError | None = None
        self.is_refused: bool = False
        self.account = account
        self._options = options
        self._steps = steps
        self._clock = account.settings.clock
        self._ordered_at: float | None = None
        self._has_response = False
        self._is_name_confirmed = False
        self._may_appear_until = 0.0
        self._highest_price: float | None = None
        self._final_spent: float | None = None
        self._listeners = LISTENERS.get()

    async def order(self) -> Pod:
        """Order the pod, and record it in its file.

        Raises:
            EndedError: The lease ended before it was ordered.
            GivenUpError: The order was interrupted, and may have been carried out.
            PriceTooHighError: The ordered pod costs more than ``spec.max_price``.
            PrimePodsError: Any other error of ``pods.create``.
        """
        await self._write_file()
        try:
            pod = await self._order_or_find()
        except CreateUncertainError:
            self._leave_to_sweep()
            raise
        except PrimePodsError as exc:
            if isinstance(exc, APIError) and not isinstance(exc, KEY_REJECTIONS):
                await self._note_refusal()
            else:
                # No pod exists: if that were unknown, the order would have raised CreateUncertainError.
                self.file.remove()
            raise
        except (GivenUpError, *INTERRUPTS):
            self.report_failure("its order was interrupted")
            raise GivenUpError from None
        self.pod = pod
        self._has_response = True
        self._may_appear_until = self._clock.time() + _APPEARANCE_TIMEOUT
        self.note_price(pod.price_hr)
        self.notify("LeaseStarted")
        await self._update_file(pod_id=pod.id, price_hr=self.price_hr)
        self.check_price()
        return pod

    async def _order_or_find(self) -> Pod:
        """Order the pod; if that is interrupted after the order was sent, search for the pod."""
        try:
            return await self._steps.run(self._order())
        except INTERRUPTS:
            if self._ordered_at is None:
                self.file.remove()
                raise EndedError from None
            return await self._steps.run(self._find())

    async def _order(self) -> Pod:
        self._ordered_at = self._clock.boottime()
        return await self.account.order(self.spec)

    async def _find(self) -> Pod:
        """Search for the pod of an interrupted order.

        Raises:
            CreateUncertainError: No pod, or more than one pod, has the order's name.
        """
        found, result = await find_namesakes(self.account.pods, self.name, self._clock)
        if len(found) == 1:
            return found[0]
        shown = f"{len(found)} pods have this name" if found else result
        text = f"The order of pod {self.name!r} was interrupted, and the pod may exist: {shown}."
        raise CreateUncertainError(text, name=self.name, candidates=tuple(pod.id for pod in found))

    async def _note_refusal(self) -> None:
        """Record the refusal, and search for the pod later: a gateway may have sent the order twice."""
        with contextlib.suppress(GivenUpError, *INTERRUPTS):
            await self._update_file(given_up=True, is_refused=True)
        self.file.close()
        self.is_refused = True
        self.account.refused.add(self)

    async def _update_file(self, **changes: Any) -> None:
        server_time = self.account.server_clock.now()
        if server_time is not None:
            # The server's time may have been unknown when the file was created.
            changes["ordered_at"] = as_time(server_time)
        # Set the record first: if this write is interrupted, the next one includes the changes.
        self.file.record = attrs.evolve(self.file.record, **changes)
        await self._steps.run(asyncio.to_thread(self.file.update))

    async def confirm_name(self, pod_id: str) -> None:
        """Check that the API shows the pod with its name.

        Raises:
            ProtocolError: The API shows another name: a cache or proxy has mixed up two responses.
        """
        has_our_name = await is_named(self.account.pods, pod_id, self.name)
        if has_our_name is False:
            self._forget_pod()
            raise ProtocolError(
                f"The response to the order of pod {self.name!r} has the id {pod_id}, and the API shows that "
                "pod with another name: it is neither used nor deleted. The ordered pod is searched by name.",
                method="POST",
                url_path="/api/v1/pods/",
            )
        self._is_name_confirmed = has_our_name is True

    def _forget_pod(self) -> None:
        """Forget the id in the response to the order: it is another pod's."""
        self.pod = None
        self.file.record = attrs.evolve(self.file.record, pod_id=None)

    async def _write_file(self) -> None:
        """Choose the name, and write the file.

        Raises:
            ConfigError: The folder cannot be written.
        """
        account = self.account
        beginning = self.spec.name or "primepods"
        name = await self._choose_name(beginning)
        if not name.startswith(beginning):
            _log.info("the name %r is shortened: with its suffix it would exceed 63 characters", beginning)
        _log.info("leasing a pod: its name is %r", name, extra={"pod_name": name})
        self.spec = attrs.evolve(self.spec, name=name)
        record = new_record(name, account.settings, account.server_clock.now())
        write = asyncio.to_thread(LeaseFile.create, account.folder, record)
        try:
            self.file = await self._steps.run(write)
        except INTERRUPTS:
            raise EndedError from None
        if self._steps.is_ending:
            self.file.remove()
            raise EndedError

    async def _choose_name(self, beginning: str) -> UniqueName:
        """Return a unique name; with ``max_hours``, it contains the time when the pod expires."""
        account, hours = self.account, self._options.max_hours
        if hours is not None:
            naming = expiring_name(
                beginning, hours, pods=account.pods, server_clock=account.server_clock, clock=self._clock
            )
            try:
                return await self._steps.run(naming)
            except PrimePodsError as exc:
                # The lease deletes the pod in time without such a name.
                _log.warning("the name of the pod will not contain when it expires: %s", exc)
        return unique_name(beginning, self._clock.random)

    @property
    def name(self) -> str:
        """The pod's name, which is unique once the order has begun."""
        return self.spec.name or ""

    @property
    def label(self) -> str:
        """The pod, for messages."""
        if self.pod is None:
            return f"A pod named {self.name}"
        return f"Pod {self.pod.id} (name {self.name}, {self.price_hr:g} an hour)"

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
        return 0.0 if self.pod is None else self.price_hr * self.seconds / 3600

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
            message = f"it costs {self.price_hr:g} an hour, more than max_price={self.spec.max_price:g}"
            raise PriceTooHighError(
                f"{self.label} was ordered, but {message}. It is deleted: take another offer, or raise "
                "max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )

    async def release(self, *, is_kept: bool = False) -> None:
        """Delete the pod and confirm that it is terminated; report it if it may be running.

        Args:
            is_kept: Whether to keep the ordered pod, and delete only other pods of the same name: a gateway
                that repeats an order creates two.
        """
        if not self._has_response:
            return
        reason: str | None = None
        if self.pod is not None and not is_kept:
            reason = await self._delete(self.pod.id, is_listed=False)
        others = await self._other_pods()
        # `pod` is None if the API has shown its id with another name; see `_forget_pod`.
        if self.pod is None and not others:
            reason = "the response to its order had the id of another pod, and the list does not show it"
        for pod_id in others:
            _log.warning("the order of pod %s was carried out twice: pod %s is deleted", self.name, pod_id)
            failure = await self._delete(pod_id, is_listed=True)
            if failure is not None:
                reason = f"its second pod, {pod_id}, is not released: {failure}"
        self._final_spent = self.spent
        if reason is not None:
            self.report_failure(reason)
        elif not is_kept:
            self.file.remove()
            self.notify("LeaseReleased", spent=self._final_spent)

    async def _delete(self, pod_id: str, *, is_listed: bool) -> str | None:
        """Delete a pod and confirm that it is terminated; return why it may be running.

        Args:
            pod_id: The pod.
            is_listed: Whether the list shows this id with this order's unique name.
        """
        was_shown = is_listed or self.status is not None
        release = Release(
            account=self.account,
            steps=self._steps,
            options=self._options,
            pod_id=pod_id,
            name=self.name,
            label=self.label,
            may_appear_until=None if was_shown else self._may_appear_until,
            is_name_confirmed=is_listed or self._is_name_confirmed,
        )
        try:
            return await release.run()
        except AnotherPodError:
            _log.warning("pod %s has another name than %s: it is not deleted", pod_id, self.name)
            self._forget_pod()
            return None

    async def _other_pods(self) -> list[str]:
        """Return the ids of the listed pods with the unique name, except the ordered one."""
        try:
            reading = self.account.shared_list.read(self.account)
            listed, _ = await self._steps.run(reading, deadline=lambda: self._steps.hurried_deadline)
        except (GivenUpError, TooLateError):
            return []
        return [
            pod.id
            for pod in listed
            if is_same_name(self.name, pod.name) and (self.pod is None or pod.id != self.pod.id)
        ]

    async def resolve_refusal(self, listed: list[Pod], *, is_complete: bool) -> bool:
        """Delete the pod of a refused order if the list shows it; return whether nothing is left to do."""
        pods = [pod for pod in listed if is_same_name(self.name, pod.name)]
        try:
            for pod in pods:
                _log.warning("the refused order of pod %s was carried out: %s is deleted", self.name, pod.id)
                await self.account.pods.delete(pod.id, missing_ok=True)
                await self.account.pods.wait_gone(
                    pod.id, timeout=self._options.release_timeout, interval=self._options.interval
                )
        except PrimePodsError as exc:
            _log.error("pod %s may be running and billed: %s `primepods sweep` removes it.", self.name, exc)
            return False
        # Until APPEARS_WITHIN has passed, a pod that is not listed may still appear.
        is_decided = bool(pods) or (is_complete and self.seconds >= APPEARS_WITHIN)
        if is_decided:
            self.file.remove()
        return is_decided

    def _leave_to_sweep(self) -> None:
        """Leave the file to a sweep."""
        self.file.update(given_up=True)
        self.file.close()

    def report_failure(self, reason: str) -> None:
        """Report that the pod may be running: as an error of the lease, in the log and to ``on_event``."""
        if not self._steps.has_begun_in_this_process or self.release_error is not None:
            return
        pod = self.pod
        remedy = "look for that name in `pods.list()`" if pod is None else f"`client.pods.delete({pod.id!r})`"
        error = NotReleasedError(
            f"{self.label} may be running and billed: {reason}. `primepods sweep` removes it, or {remedy}.",
            pod_id=None if pod is None else pod.id,
            name=self.name,
            price_hr=None if pod is None else self.price_hr,
        )
        self.release_error = error
        _log.error("%s", error, extra={"pod_id": error.pod_id, "pod_name": self.name})
        if self._listeners is not None:
            from ..events import ReleaseFailed  # noqa: PLC0415 - loaded with the first on_event

            event = ReleaseFailed(pod_id=error.pod_id, name=self.name, price_hr=error.price_hr)
            self._listeners.notify(event)
        self._leave_to_sweep()

    def notify(
        self, kind: Literal["LeaseStarted", "LeaseReady", "LeaseKept", "LeaseReleased"], **fields: float
    ) -> None:
        """Report an event of the lease to ``on_event``."""
        if self._listeners is None or self.pod is None:
            return
        from .. import events  # noqa: PLC0415 - loaded with the first on_event

        fields |= {"price_hr": self.price_hr, "seconds": self.seconds}
        self._listeners.notify(getattr(events, kind)(pod_id=self.pod.id, name=self.name, **fields))
