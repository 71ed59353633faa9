"""Creating a pod: one POST, never repeated where it may have been received.

What it leaves open (no answer, an answer that cannot be read, a failure of the server's own) is settled by
looking for the pod's name in the list. So there are three ends: the pod; an error that proves that none was
made; and :class:`~primepods.CreateUncertainError`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import attrs

from .._decoding.fields import DecodeError
from .._decoding.rows import decode_object
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request
from .._utils.strict_json import dumps
from .._utils.text import quote
from ..errors import (
    APIError,
    ClientClosedError,
    CreateUncertainError,
    PrimePodsError,
    TransportError,
)
from ..models import Pod
from ..pagination import AsyncPager
from ..specs import CUSTOM_IMAGE, PodSpec
from ._refusals import explain

log = logging.getLogger("primepods")

_NAME_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NAME_LENGTH: Final = 12
_SAFE_NAME: Final = re.compile("[a-z0-9-]{1,40}")
"""Names that no server has a reason to spell in another way."""
_CLOCK_SKEW: Final = 60.0
"""Seconds by which this machine's clock may differ from the server's."""
_LOOKING: Final = 20.0
"""Seconds for a pod to appear whose answer was lost."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_SAME_NAME: Final = 600.0
"""Seconds after an order in which its pod can be taken for the next one's of the same name."""
_MOST_ORDERS: Final = 10_000

_WIRE_NAMES: Final[Mapping[str, str]] = {
    "name": "name",
    "cloud_id": "cloudId",
    "gpu_type": "gpuType",
    "socket": "socket",
    "gpu_count": "gpuCount",
    "disk_size": "diskSize",
    "vcpus": "vcpus",
    "memory": "memory",
    "max_price": "maxPrice",
    "image": "image",
    "custom_template_id": "customTemplateId",
    "data_center_id": "dataCenterId",
    "country": "country",
    "security": "security",
    "jupyter_password": "jupyterPassword",
    "ssh_key_id": "sshKeyId",
    "auto_restart": "autoRestart",
    "prepaid_for_hr": "prepaidForHr",
}
"""The fields of a spec that stand under ``pod`` in the body as they are."""


@attrs.frozen
class _Order:
    """An order of late: when it was sent, and whether the one of its name before it was long ago."""

    ordered_at: float
    is_alone: bool


_orders: Final[dict[tuple[str, str], _Order]] = {}
"""The latest order of each base URL and name, oldest first; of all clients of this process."""


class PodCreator:
    """Creates pods.

    Args:
        executor: Sends the requests.
        list_pods: Lists all pods.
    """

    def __init__(self, executor: RequestExecutor, list_pods: Callable[[], AsyncPager[Pod]]) -> None:
        self._executor = executor
        self._list_pods = list_pods
        self._clock = executor.settings.clock

    def named(self, spec: PodSpec) -> PodSpec:
        """Return ``spec`` with a name: its own, or a new one that no other pod has.

        Raises:
            TypeError: It is no spec.
        """
        if not isinstance(spec, PodSpec):
            raise TypeError(
                f"spec must be a PodSpec, got {quote(spec)}: use PodSpec.from_offer(offer) or PodSpec(…)"
            )
        if spec.name is not None:
            return spec
        letters = (_NAME_LETTERS[int(self._clock.random() * 32)] for _ in range(_NAME_LENGTH))
        return attrs.evolve(spec, name="primepods-" + "".join(letters))

    async def create(self, spec: PodSpec) -> Pod:
        """Create a pod; see :meth:`primepods.AsyncPods.create`.

        Raises:
            CreateUncertainError: It may have been made.
            PrimePodsError: Any other one: it was not made.
        """
        spec = self.named(spec)
        request = _request(spec, self._executor.settings.team_id)
        # A client that is closed already says so here: what it says later comes when something may be sent.
        self._executor.transport.check()
        ordered_at = self._clock.wall()
        self._remember(spec, ordered_at)
        with _told_when_interrupted(spec):
            outcome = await self._send(spec, request)
            if isinstance(outcome, Pod):
                return outcome
            return await self.find(str(spec.name), ordered_at, outcome)

    async def find(self, name: str, ordered_at: float, trouble: PrimePodsError | None = None) -> Pod:
        """Return the pod that an order whose outcome is unknown has made.

        Args:
            name: The name of the pod that was ordered.
            ordered_at: When, by the wall clock.
            trouble: What the order ended with.

        Raises:
            CreateUncertainError: No pod has appeared that is provably this order's.
        """
        ends_at = self._clock.time() + _LOOKING
        log.warning("whether the pod %r was made is unknown: looking for it in the list", name)
        seen: Pod | str = "the list could not be read in time"
        pause = _FIRST_PAUSE
        # A look that hangs is cut, and the message says what the one before it saw.
        with suppress(TimeoutError, ClientClosedError):
            async with self._clock.timeout_at(ends_at + self._executor.settings.timeout):
                while isinstance(seen := await self._look(name, ordered_at), str):
                    left = ends_at - self._clock.time()
                    if left <= 0:
                        break
                    await self._executor.transport.pause(min(pause, left))
                    pause = min(2 * pause, _LONGEST_PAUSE)
        if isinstance(seen, Pod):
            return seen
        raise _uncertain(name, trouble, seen) from trouble

    async def _send(self, spec: PodSpec, request: Request) -> Pod | PrimePodsError:
        """Send an order; return the pod, or what leaves open whether there is one.

        Raises:
            PrimePodsError: There is none.
        """
        try:
            return await self._executor.call(request, partial(_decode, spec))
        except PrimePodsError as exc:
            trouble = explain(exc.with_traceback(None))
        if _proves_that_nothing_was_made(trouble):
            raise trouble
        return trouble

    async def _look(self, name: str, ordered_at: float) -> Pod | str:
        """Look for the pod once; return it, or what is there instead."""
        try:
            async with self._list_pods() as pods:
                namesakes = [pod async for pod in pods if pod.name == name]
        except PrimePodsError as exc:
            return f"the list could not be read: {exc}"
        # A pod from the future shows that the clocks differ by more, so that its age says nothing.
        since, until = ordered_at - _CLOCK_SKEW, self._clock.wall() + _CLOCK_SKEW
        new = [pod for pod in namesakes if pod.created_at and since <= pod.created_at.timestamp() <= until]
        if len(new) == 1 and self._is_alone(name):
            return new[0]
        ids = ", ".join(pod.id for pod in namesakes)
        return f"of this name, but not provably of this order: {ids}" if ids else "no pod has this name"

    def _remember(self, spec: PodSpec, ordered_at: float) -> None:
        """Note that a pod was ordered, and whether another order's pod could be taken for it."""
        key = (self._executor.settings.base_url, str(spec.name))
        before = _orders.pop(key, None)
        is_alone = before is None or ordered_at - before.ordered_at >= _SAME_NAME
        _orders[key] = _Order(ordered_at, is_alone)
        if len(_orders) > _MOST_ORDERS:
            del _orders[next(iter(_orders))]

    def _is_alone(self, name: str) -> bool:
        order = _orders.get((self._executor.settings.base_url, name))
        return order is None or order.is_alone


@contextmanager
def _told_when_interrupted(spec: PodSpec) -> Generator[None, None, None]:
    """Name the pod, in the log and in a note, when the block is cancelled or ends with no error of ours."""
    try:
        yield
    except PrimePodsError:
        raise
    except BaseException as exc:
        name = str(spec.name)
        text = f"pods.create was interrupted: the pod {name!r} may have been made. {_remedy(name)}"
        log.warning("%s", text)
        exc.add_note(text)
        raise


def _request(spec: PodSpec, team_id: str | None) -> Request:
    pod = {wire: getattr(spec, name) for name, wire in _WIRE_NAMES.items()}
    if spec.image is None and spec.custom_template_id is not None:
        pod["image"] = CUSTOM_IMAGE
    if spec.env_vars:
        pod["envVars"] = [{"key": key, "value": value} for key, value in spec.env_vars.items()]
    body: dict[str, Any] = {
        "pod": {key: value for key, value in pod.items() if value is not None},
        "provider": {"type": spec.provider},
    }
    if spec.disks:
        body["disks"] = spec.disks
    if (team := spec.team_id or team_id) is not None:
        body["team"] = {"teamId": team}
    # Unlike the other keys, the schema spells these two in snake_case.
    if spec.team_member_ids:
        body["team_member_ids"] = spec.team_member_ids
    if spec.shared_with_team:
        body["shared_with_team"] = True
    return Request(method="POST", path=f"{PODS}/", body=dumps(body))


def _decode(spec: PodSpec, data: Any) -> Pod:
    pod = decode_object(data, Pod)
    if pod.name not in {None, spec.name} and _SAFE_NAME.fullmatch(str(spec.name)):
        # A cache or a proxy that mixes up answers: this is another order's pod.
        raise DecodeError("name", f"expected {spec.name!r}, got {quote(pod.name)}", pod.name)
    return pod


def _proves_that_nothing_was_made(error: PrimePodsError) -> bool:
    if isinstance(error, TransportError):
        return not error.maybe_received
    if not isinstance(error, APIError) or error.maybe_acted:
        return False
    if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    is_refusal = HTTPStatus.BAD_REQUEST <= error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    # In the API's own words: a gateway's page says nothing of what the API did.
    return is_refusal and not error.transient and isinstance(error.body, dict)


def _uncertain(name: str, trouble: PrimePodsError | None, seen: str) -> CreateUncertainError:
    text = (
        f"Whether the pod {name!r} was made is unknown: {trouble or 'its order was interrupted.'} "
        f"Looking for it for {_LOOKING:g} s showed: {seen}. {_remedy(name)}"
    )
    return CreateUncertainError(text, name=name)


def _remedy(name: str) -> str:
    return (
        f"It may appear yet, and is billed from then on: look for {name!r} in `pods.list()`, and in "
        "`pods.history()` in case it failed at once; delete what you do not want before you order again."
    )
