"""One order of a lease: its unique name, its file, its pod and its cost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final, Literal

import attrs

from .._operations import LISTENERS
from .._utils.unique_names import is_same_name, unique_name
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
from .pods_api import APPEARS_WITHIN, UNAUTHORIZED, find_namesakes, is_named
from .server_time import expiring_name

_log = logging.getLogger("primepods")

_DOUBT: Final = 60.0
"""Seconds after its order for which the release of a pod that nothing has shown goes on."""


class Rental:
    """One order, from its name until its pod is confirmed terminated.

    Args:
        account: Through what it is ordered.
        spec: What to order, without the suffix of its name.
        options: How.
        steps: The steps of the lease.

    Attributes:
        account: Through what it is ordered.
        spec: What is ordered.
        pod: The pod as ordered; ``None`` before that.
        status: Its status as last seen.
        file: Its file.
        price_hr: The highest price an hour that any response had; before that, what it may cost at most.
        not_released: Why it may be running.
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
        self._has_ordered = self._has_response = self._is_proved = False
        self._ordered_at = self._made_at = 0.0
        self._spent: float | None = None
        self._listeners = LISTENERS.get()

    async def order(self) -> Pod:
        """Order the pod.

        Raises:
            EndedError: The lease ended before it was ordered.
            GivenUpError: The order was interrupted, and may have been carried out.
            PriceTooHighError: It costs more than ``spec.max_price``, and has to be released.
            PrimePodsError: Any other one: see ``pods.create``.
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
        self.pod, self._made_at, self._has_response = pod, self._clock.time(), True
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
        """Write what has become known into the file."""
        if (server_time := self.account.server_clock.now()) is not None:
            # Before the first response it may not have been known.
            changes["ordered_at"] = as_time(server_time)
        # Known to a later update, even if this one is interrupted before it is written.
        self.file.record = attrs.evolve(self.file.record, **changes)
        await self._steps.run(asyncio.to_thread(self.file.update))

    async def confirm_ownership(self) -> None:
        """Check that the API shows the pod with its name: a cache or proxy may have mixed up responses.

        Raises:
            ProtocolError: It has another name.
        """
        if self.pod is None or self._is_proved:
            return
        pod_id, is_ours = self.pod.id, await is_named(self.account.pods, self.pod.id, self.name)
        if is_ours is False:
            self._disown()
            raise ProtocolError(
                f"The order of pod {self.name!r} brought the id {pod_id}, and the API shows that pod with "
                "another name: it is neither used nor deleted. The ordered pod is looked for by its name.",
                method="POST",
                url_path="/api/v1/pods/",
            )
        self._is_proved = is_ours is True

    def _disown(self) -> None:
        """Forget the id in the response, which is another pod's."""
        self.pod = None
        self.file.record = attrs.evolve(self.file.record, pod_id=None)

    async def _write_file(self) -> None:
        """Choose the name, and write the file.

        Raises:
            ConfigError: The folder cannot be written.
        """
        settings, wanted = self.account.settings, self.spec.name or "primepods"
        account, hours = self.account, self._options.max_hours
        if hours is None:
            name = unique_name(wanted, self._clock.random)
        else:
            naming = expiring_name(
                wanted, hours, pods=account.pods, server_clock=account.server_clock, clock=self._clock
            )
            name = await self._steps.run(naming)
        if not name.startswith(wanted):
            _log.info("the name %r is shortened, since the whole would be longer than 63 characters", wanted)
        _log.info("leasing a pod: its name is %r", name, extra={"pod_name": name})
        self.spec = attrs.evolve(self.spec, name=name)
        record = new_record(name, settings, settings.team_id, account.server_clock.now())
        write = asyncio.to_thread(LeaseFile.create, account.folder, record)
        try:
            self.file = await self._steps.run(write)
        except INTERRUPTS:
            raise EndedError from None
        if self._steps.is_ending:
            self.file.remove()
            raise EndedError

    async def _order(self) -> Pod:
        self._has_ordered, self._ordered_at = True, self._clock.boottime()
        return await self.account.order(self.spec)

    async def _find(self) -> Pod:
        found, shown = await find_namesakes(self.account.pods, self.name, self._clock)
        if len(found) == 1:
            return found[0]
        text = f"The order of pod {self.name!r} was interrupted, and the pod may exist: {shown}."
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
        """Seconds since the order, also those in which the machine slept."""
        return self._clock.boottime() - self._ordered_at if self._has_ordered else 0.0

    @property
    def spent(self) -> float:
        """Cost of the pod so far, at the highest price seen."""
        if self._spent is not None:
            return self._spent
        return 0.0 if self.pod is None else self.price_hr * self.seconds / 3600

    def note_price(self, price_hr: float | None) -> None:
        """Update the price; 0 means unknown."""
        if price_hr is not None and price_hr > 0:
            self.price_hr = max(self.price_hr, price_hr) if self._has_price else price_hr
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
        """Delete the pod and confirm that it is terminated; else say that it may be running.

        Args:
            is_kept: Whether to delete only other pods of its name: a gateway that repeats an order makes two.
        """
        if not self._has_response:
            return
        reason = None
        if self.pod is not None and not is_kept:
            reason = await self._delete(self.pod.id)
        others = await self._other_pods()
        if self.pod is None and not others:
            reason = "the response to its order had the id of another pod, and the list does not show it"
        for pod_id in others:
            _log.warning("the order of pod %s was carried out twice: pod %s is deleted", self.name, pod_id)
            if failure := await self._delete(pod_id):
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
            doubt_until=None if is_seen else self._made_at + _DOUBT,
            is_proved=is_listed or self._is_proved,
        )
        try:
            return await release.run()
        except AnotherPodError:
            _log.warning("pod %s has another name than %s: it is not deleted", pod_id, self.name)
            self._disown()
            return None

    async def _other_pods(self) -> list[str]:
        """Return the ids of the listed pods of the unique name, but for that of the response."""
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
        # A pod that is not listed yet may appear.
        is_decided = bool(pods) or (is_complete and self.seconds >= APPEARS_WITHIN)
        if is_decided:
            self.file.remove()
        return is_decided

    def _give_up(self) -> None:
        """Leave the file to a sweep."""
        self.file.update(given_up=True)
        self.file.close()

    def fail(self, reason: str) -> None:
        """Report everywhere that the pod may be running."""
        if not self._steps.is_ours or self.not_released is not None:
            return
        pod = self.pod
        self.not_released = failed = NotReleasedError(
            f"{self.what} may be running and billed: {reason}. `primepods sweep` removes it, or "
            + (f"`client.pods.delete({pod.id!r})`." if pod else "look for that name in `pods.list()`."),
            pod_id=None if pod is None else pod.id,
            name=self.name,
            price_hr=None if pod is None else self.price_hr,
        )
        _log.error("%s", self.not_released, extra={"pod_id": failed.pod_id, "pod_name": self.name})
        if self._listeners is not None:
            from ..events import ReleaseFailed  # noqa: PLC0415 - loaded with the first on_event

            event = ReleaseFailed(pod_id=failed.pod_id, name=self.name, price_hr=failed.price_hr)
            self._listeners.notify(event)
        self._give_up()

    def tell(
        self, kind: Literal["LeaseStarted", "LeaseReady", "LeaseKept", "LeaseReleased"], **fields: float
    ) -> None:
        """Tell ``on_event`` what has become of the pod."""
        if self._listeners is None or self.pod is None:
            return
        from .. import events  # noqa: PLC0415 - as above

        fields |= {"price_hr": self.price_hr, "seconds": self.seconds}
        self._listeners.notify(getattr(events, kind)(pod_id=self.pod.id, name=self.name, **fields))
