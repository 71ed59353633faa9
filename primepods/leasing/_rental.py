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
    ClientClosedError,
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
from .pods_api import APPEARS_WITHIN, UNAUTHORIZED, find_namesakes, is_named
from .server_time import expiring_name

_log = logging.getLogger("primepods")

_DOUBT_TIMEOUT: Final = 60.0
"""Seconds after the order in which a pod that no response has shown may still appear."""


class Rental:
    """One order, from its name until its pod is confirmed terminated.

    Args:
        account: The account that orders the pod.
        spec: The pod to order; its name has no suffix yet.
        options: The parameters of the lease.
        steps: The steps of the lease.

    Attributes:
        account: The account that orders the pod.
        spec: The ordered pod.
        pod: The pod as ordered; ``None`` before that.
        status: The pod's last status.
        file: The lease file.
        price_hr: The highest price per hour in any response; before the first, the order's maximum price.
        not_released: The error that says why the pod may still be running, or ``None``.
        is_refused: Whether the API refused the order, though it may have carried it out.
    """

    file: LeaseFile

    def __init__(self, account: Account, spec: PodSpec, options: LeaseOptions, steps: Steps) -> None:
        self.spec: PodSpec = spec
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.not_released: NotReleasedError | None = None
        self.price_hr: float = spec.max_price or 0.0
        self._has_price = False
        self.account = account
        self._options = options
        self._steps = steps
        self._clock = account.settings.clock
        self.is_refused: bool = False
        self._has_ordered = False
        self._has_response = False
        self._is_proved = False
        self._ordered_at = 0.0
        self._made_at = 0.0
        self._spent: float | None = None
        self._listeners = LISTENERS.get()

    async def order(self) -> Pod:
        """Order the pod.

        Raises:
            EndedError: The lease ended before it was ordered.
            GivenUpError: The order was interrupted, and may have been carried out.
            PriceTooHighError: The pod costs more than ``spec.max_price``, and must be released.
            PrimePodsError: Any other error of ``pods.create``.
        """
        await self._write_file()
        try:
            try:
                pod = await self._steps.run(self._order())
            except INTERRUPTS:
                if not self._has_ordered:
                    self.file.remove()
                    raise EndedError from None
                # The event loop ends, and the order may have been carried out.
                pod = await self._steps.run(self._find())
        except CreateUncertainError:
            self._give_up()
            raise
        except PrimePodsError as exc:
            if isinstance(exc, APIError) and not isinstance(exc, UNAUTHORIZED):
                await self._note_refusal()
            else:
                self.file.remove()
            raise
        except (GivenUpError, *INTERRUPTS):
            self.fail("its order was interrupted")
            raise GivenUpError from None
        self.pod = pod
        self._made_at = self._clock.time()
        self._has_response = True
        self.note_price(pod.price_hr)
        self.tell("LeaseStarted")
        await self._update_file(pod_id=pod.id, price_hr=self.price_hr)
        self.check_price()
        return pod

    async def _note_refusal(self) -> None:
        """Leave the file to a sweep: a gateway may have sent the order twice, and only the second failed."""
        self.is_refused = True
        with contextlib.suppress(GivenUpError, *INTERRUPTS):
            await self._update_file(given_up=True, is_refused=True)
        self.file.close()

    async def _update_file(self, **changes: Any) -> None:
        """Write changed fields into the file."""
        server_time = self.account.server_clock.now()
        if server_time is not None:
            # The server's time may have been unknown when the file was created.
            changes["ordered_at"] = as_time(server_time)
        # Set the record first: if this write is interrupted, the next one includes the changes.
        self.file.record = attrs.evolve(self.file.record, **changes)
        await self._steps.run(asyncio.to_thread(self.file.update))

    async def confirm_ownership(self) -> None:
        """Check that the API shows the pod with its name: a cache or proxy may have mixed up responses.

        Raises:
            ProtocolError: The pod has another name.
        """
        if self.pod is None or self._is_proved:
            return
        pod_id = self.pod.id
        is_ours = await is_named(self.account.pods, pod_id, self.name)
        if is_ours is False:
            self._disown()
            raise ProtocolError(
                f"The response to the order of pod {self.name!r} has the id {pod_id}, and the API shows that "
                "pod with another name: it is neither used nor deleted. The ordered pod is searched by name.",
                method="POST",
                url_path="/api/v1/pods/",
            )
        self._is_proved = is_ours is True

    def _disown(self) -> None:
        """Forget the id in the response, which is that of another pod."""
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
        settings = account.settings
        record = new_record(name, settings, settings.team_id, account.server_clock.now())
        write = asyncio.to_thread(LeaseFile.create, account.folder, record)
        try:
            self.file = await self._steps.run(write)
        except INTERRUPTS:
            raise EndedError from None
        if self._steps.is_ending:
            self.file.remove()
            raise EndedError

    async def _choose_name(self, beginning: str) -> UniqueName:
        """Return a unique name, which says when the pod expires if the lease has a maximum time."""
        account, hours = self.account, self._options.max_hours
        if hours is not None:
            naming = expiring_name(
                beginning, hours, pods=account.pods, server_clock=account.server_clock, clock=self._clock
            )
            try:
                return await self._steps.run(naming)
            except ClientClosedError:
                raise
            except PrimePodsError as exc:
                # The lease itself deletes the pod in time, as nothing does with a created one.
                _log.warning("the name of the pod will not contain when it expires: %s", exc)
        return unique_name(beginning, self._clock.random)

    async def _order(self) -> Pod:
        self._has_ordered = True
        self._ordered_at = self._clock.boottime()
        return await self.account.order(self.spec)

    async def _find(self) -> Pod:
        found, result = await find_namesakes(self.account.pods, self.name, self._clock)
        if len(found) == 1:
            return found[0]
        text = f"The order of pod {self.name!r} was interrupted, and the pod may exist: {result}."
        raise CreateUncertainError(text, name=self.name, candidates=tuple(pod.id for pod in found))

    @property
    def name(self) -> str:
        """The pod's unique name."""
        return self.spec.name or ""

    @property
    def what(self) -> str:
        """The pod, for messages."""
        if self.pod is None:
            return f"A pod named {self.name}"
        return f"Pod {self.pod.id} (name {self.name}, {self.price_hr:g} an hour)"

    @property
    def seconds(self) -> float:
        """Seconds since the order, including those in which the machine slept."""
        return self._clock.boottime() - self._ordered_at if self._has_ordered else 0.0

    @property
    def spent(self) -> float:
        """Cost of the pod so far, at the highest price seen."""
        if self._spent is not None:
            return self._spent
        return 0.0 if self.pod is None else self.price_hr * self.seconds / 3600

    def note_price(self, price_hr: float | None) -> None:
        """Update the price; 0 means unknown."""
        if price_hr is None or price_hr <= 0:
            return
        if self._has_price:
            self.price_hr = max(self.price_hr, price_hr)
        else:
            # The first price replaces the order's maximum price.
            self.price_hr = price_hr
            self._has_price = True

    def note_status(self, status: PodStatus | None) -> None:
        """Update the status, and the price that it has."""
        if status is not None:
            self.status = status
            self.note_price(status.cost_per_hr)

    def check_price(self) -> None:
        """Raise an error if the pod costs more than was allowed."""
        if self.spec.is_exceeded_by(self.price_hr):
            message = f"it costs {self.price_hr:g} an hour, more than max_price={self.spec.max_price:g}"
            raise PriceTooHighError(
                f"{self.what} was ordered, but {message}. It is deleted: take another offer, or raise "
                "max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )

    async def release(self, *, is_kept: bool = False) -> None:
        """Delete the pod and confirm that it is terminated; report it if it may be running.

        Args:
            is_kept: Whether to delete only other pods of its name: a gateway that repeats an order makes two.
        """
        if not self._has_response:
            return
        reason: str | None = None
        if self.pod is not None and not is_kept:
            reason = await self._delete(self.pod.id)
        others = await self._other_pods()
        if self.pod is None and not others:
            reason = "the response to its order had the id of another pod, and the list does not show it"
        for pod_id in others:
            _log.warning("the order of pod %s was carried out twice: pod %s is deleted", self.name, pod_id)
            failure = await self._delete(pod_id)
            if failure is not None:
                reason = f"its second pod, {pod_id}, is not released: {failure}"
        self._spent = self.spent
        if reason is not None:
            self.fail(reason)
        elif not is_kept:
            self.file.remove()
            self.tell("LeaseReleased", spent=self._spent)

    async def _delete(self, pod_id: str) -> str | None:
        """Delete a pod and confirm that it is terminated; return why it may be running."""
        is_listed = self.pod is None or pod_id != self.pod.id
        is_seen = is_listed or self.status is not None
        release = Release(
            account=self.account,
            steps=self._steps,
            options=self._options,
            pod_id=pod_id,
            name=self.name,
            what=self.what,
            doubt_until=None if is_seen else self._made_at + _DOUBT_TIMEOUT,
            is_proved=is_listed or self._is_proved,
        )
        try:
            return await release.run()
        except AnotherPodError:
            _log.warning("pod %s has another name than %s: it is not deleted", pod_id, self.name)
            self._disown()
            return None

    async def _other_pods(self) -> list[str]:
        """Return the ids of the listed pods with the unique name, except the ordered one."""
        try:
            reading = self.account.shared_list.read(self.account)
            listed, _ = await self._steps.run(reading, until=lambda: self._steps.hurry_until)
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

    def _give_up(self) -> None:
        """Leave the file to a sweep."""
        self.file.update(given_up=True)
        self.file.close()

    def fail(self, reason: str) -> None:
        """Report that the pod may be running: as an error of the lease, in the log and to ``on_event``."""
        if not self._steps.is_ours or self.not_released is not None:
            return
        pod = self.pod
        remedy = "look for that name in `pods.list()`" if pod is None else f"`client.pods.delete({pod.id!r})`"
        error = NotReleasedError(
            f"{self.what} may be running and billed: {reason}. `primepods sweep` removes it, or {remedy}.",
            pod_id=None if pod is None else pod.id,
            name=self.name,
            price_hr=None if pod is None else self.price_hr,
        )
        self.not_released = error
        _log.error("%s", error, extra={"pod_id": error.pod_id, "pod_name": self.name})
        if self._listeners is not None:
            from ..events import ReleaseFailed  # noqa: PLC0415 - loaded with the first on_event

            event = ReleaseFailed(pod_id=error.pod_id, name=self.name, price_hr=error.price_hr)
            self._listeners.notify(event)
        self._give_up()

    def tell(
        self, kind: Literal["LeaseStarted", "LeaseReady", "LeaseKept", "LeaseReleased"], **fields: float
    ) -> None:
        """Report an event of the lease to ``on_event``."""
        if self._listeners is None or self.pod is None:
            return
        from .. import events  # noqa: PLC0415 - as above

        fields |= {"price_hr": self.price_hr, "seconds": self.seconds}
        self._listeners.notify(getattr(events, kind)(pod_id=self.pod.id, name=self.name, **fields))
