"""Orders of pods and disks: state, responses and outcomes, and the request that orders a pod.

Other clouds are reported to list new rows late. Gateways that send an order twice, caches and proxies that
mix up responses, and servers that change names are imagined. All of these are handled, because a pod could
otherwise be billed without the user's knowledge. ``tests/renting/test_creation.py`` and
``tests/resources/test_disks.py`` test them.

A row is an order's own in these cases (a *new* row was neither listed nor created before the order):

==================  ==========================================  ==========================================
Row                 Under a unique name                         Under a name that the user chose
==================  ==========================================  ==========================================
the response        it has the name                             it has the name, and was not listed before
``get`` of its id   it has the name                             the same; or the name is changed or
                                                                missing, and it is new
found by its name   it can be read whole; several if a          it is the only new one, no other order of
                    gateway has repeated the order              the name was in flight, and (pods) no lease
                                                                file has it
==================  ==========================================  ==========================================
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

from .. import errors
from .._decoding.fields import DecodeError
from .._decoding.objects import wire_names
from .._decoding.rows import as_object, decode_object
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request
from .._utils.arguments import check_id
from .._utils.clock import ServerClock
from .._utils.exceptions import copy_exception
from .._utils.strict_json import dumps
from .._utils.text import quote
from .._utils.unique_names import UniqueName, is_same_name, may_be_changed_name
from ..errors import PrimePodsError
from ..leasing.pods_api import BareRow, ListedPod, find_named, read_list
from ..models import Pod
from ..models.account import Disk
from ..pagination import AsyncPager
from ..specs import CUSTOM_IMAGE, PodSpec
from ._refusals import KEY_REJECTIONS, is_definitive_rejection, reclassify_refusal

T = TypeVar("T", Pod, Disk)
N = TypeVar("N", ListedPod, Disk)
NoteId: TypeAlias = Callable[[str], Awaitable[None]]

log = logging.getLogger("primepods")

# Seconds by which the server's ``Date`` may be ahead of its creation times.
_DATE_TOLERANCE: Final = 5.0
# Fields of a spec that the body has in another form, or not under ``pod``.
_NOT_COPIED_TO_POD: Final = {
    "provider",
    "env_vars",
    "disks",
    "team_id",
    "team_member_ids",
    "shared_with_team",
}


@attrs.define(eq=False)
class Order(Generic[T]):
    """State of one order of a pod or a disk.

    Attributes:
        name: The ordered name.
        model: ``Pod`` or ``Disk``.
        known: For a name that the user chose, the ids that were listed before the order, and those passed to
            :meth:`note_known`; ``None`` if the list could not be read completely.
        is_alone: Whether this process has had no other order of this name in flight at the same time.
        ordered_at: For a name that the user chose, the server's time just before the order; otherwise, and
            if it is unknown, minus infinity.
        response_id: The id in the response, which may be another order's.
        has_our_name: Whether the response has the ordered name. For a unique name, this proves that the id
            is this order's.
    """

    name: str
    model: type[T]
    known: frozenset[str] | None = frozenset()
    is_alone: bool = True
    ordered_at: float = -math.inf
    response_id: str | None = None
    has_our_name: bool = False

    @property
    def kind(self) -> str:
        return "pod" if self.model is Pod else "disk"

    @property
    def is_unique(self) -> bool:
        """Whether no other order can have this name."""
        return isinstance(self.name, UniqueName)

    async def note_known(
        self, listed: AsyncPager[N], server_clock: ServerClock, returned: Collection[str]
    ) -> None:
        """Record the rows that exist before the order, and the server's time.

        Args:
            listed: A pager of all pods, or disks.
            server_clock: The server's time.
            returned: Ids that earlier orders have returned, which the list may not show yet.

        Raises:
            PrimePodsError: The list could not be read, not even in part. Nothing is ordered.
        """
        rows, error = await listed.collect()
        if error is not None and not rows:
            raise error
        self.known = None if error else frozenset(row.id for row in rows).union(returned)
        self.ordered_at = server_clock.now() or -math.inf

    def decode(self, data: Any) -> T:
        """Decode the response; record its id and whether the name is ours, even if the rest is invalid."""
        fields = as_object(data)
        row_id, name = fields.get("id"), fields.get("name")
        if isinstance(row_id, str):
            with suppress(ValueError):
                self.response_id = check_id(row_id)
        self.has_our_name = isinstance(name, str) and is_same_name(self.name, name)
        row = decode_object(data, self.model)
        # Imagined: an invalid id, or a cache or proxy that mixes up responses. A name that the server has
        # changed also fails here; `owns_response_id` may accept it.
        if row.id != self.response_id:
            raise DecodeError("id", "expected an id that can be requested", row.id)
        if self._is_known(row):
            raise DecodeError("id", f"expected a new {self.kind}, got one that was listed before", row.id)
        if not self.has_our_name:
            raise DecodeError("name", f"expected {self.name!r}, got {quote(row.name)}", row.name)
        return row

    def owns_response_id(self, row: T) -> bool:
        """Return whether the row with the id in the response is this order's."""
        if is_same_name(self.name, row.name):
            return not self._is_known(row)
        if self.is_unique or self.ordered_at == -math.inf:
            return False
        # Imagined: the server drops or changes the name. The row counts only if it is provably new.
        may_have_name = row.name is None or may_be_changed_name(self.name, row.name)
        return may_have_name and self._is_new(row)

    def _is_known(self, row: T) -> bool:
        return self.known is not None and row.id in self.known

    def _is_new(self, row: T) -> bool:
        """Return whether a row was neither listed nor created before the order.

        ``False`` if the list or the row's time is unknown. If only the order's time is unknown, the list
        decides.
        """
        if self.known is None or row.id in self.known or row.created_at is None:
            return False
        return row.created_at.timestamp() >= self.ordered_at - _DATE_TOLERANCE

    def choose(self, named: Iterable[T | BareRow]) -> list[T]:
        """Choose, from rows with the ordered name, those that only this order can have created.

        With a unique name, these are all readable rows; otherwise at most one, if it is the only new row.
        """
        whole = [row for row in named if isinstance(row, self.model)]
        if self.is_unique:
            return whole
        new = [row for row in whole if self.is_alone and self._is_new(row)]
        return new if len(new) == 1 else []


# Orders in flight under names that users chose.
_orders_in_flight: Final[set[Order[Any]]] = set()


@contextmanager
def _in_flight(order: Order[Any]) -> Generator[None, None, None]:
    """Register an order during the block; overlapping orders of one chosen name lose ``is_alone``.

    A new pod, or disk, of that name may belong to any of them. Orders of other accounts count, too: they are
    rare.
    """
    if order.is_unique:
        yield
        return
    # Add the order first: of two orders in two threads, the later one then finds the other.
    _orders_in_flight.add(order)
    for other in list(_orders_in_flight - {order}):
        if other.model is order.model and is_same_name(order.name, other.name):
            order.is_alone = other.is_alone = False
    try:
        yield
    finally:
        _orders_in_flight.discard(order)


@contextmanager
def _warn_if_interrupted(order: Order[Any]) -> Generator[None, None, None]:
    """If the block is interrupted, log that the pod or disk may exist, and add a note to the exception."""
    try:
        yield
    except errors.PrimePodsError:
        raise
    except BaseException as exc:
        kind = order.kind
        text = f"The order of the {kind} {order.name!r} was interrupted, so the {kind} may exist. "
        text += _remedy(order)
        log.warning("%s", text)
        exc.add_note(text)
        raise


@attrs.frozen
class OrderSender(Generic[T, N]):
    """Sender of orders of pods, or of disks; it also determines their outcomes.

    Args:
        executor: Sends the requests.
        list_rows: Returns a pager of all pods, or disks.
        get: Returns the pod, or disk, with an id.
        choose: Returns, of the rows with an order's name, those that only this order can have created.
    """

    executor: RequestExecutor
    list_rows: Callable[[], AsyncPager[N]]
    get: Callable[[str], Awaitable[T]]
    choose: Callable[[Order[T], Iterable[N]], list[T]]

    async def send(
        self,
        order: Order[T],
        request: Request,
        *,
        note_id: NoteId | None = None,
    ) -> list[T]:
        """Send an order; return its pod or disk, and others if a gateway has repeated the order.

        Args:
            order: The order.
            request: Its request.
            note_id: Called with the id in an unreadable response that has the ordered name.

        Raises:
            CreateUncertainError: The order may have been carried out.
            PrimePodsError: Any other error: nothing was created.
        """
        transport = self.executor.transport
        # Raise for a closed client before anything is sent.
        transport.check()
        with _in_flight(order):
            if order.is_unique:
                return await self._send(order, request, note_id)
            await order.note_known(self.list_rows(), transport.server_clock, transport.ordered_ids)
            rows = await self._send(order, request, note_id)
            transport.ordered_ids.extend(row.id for row in rows)
            return rows

    async def _send(self, order: Order[T], request: Request, note_id: NoteId | None) -> list[T]:
        log.info("ordering the %s %r", order.kind, order.name)
        with _warn_if_interrupted(order):
            try:
                return [await self.executor.call(request, order.decode)]
            except PrimePodsError as exc:
                error = reclassify_refusal(exc.with_traceback(None))
            if is_definitive_rejection(error):
                return self._decide(order, await self._find_refused(order, error), "", error)
            if note_id is not None and order.has_our_name and order.response_id is not None:
                await note_id(order.response_id)
            return await self._find(order, error)

    async def _find(self, order: Order[T], error: PrimePodsError) -> list[T]:
        log.warning(
            "it is unknown whether the %s %r exists: searching the list for it", order.kind, order.name
        )
        clock, found = self.executor.settings.clock, list[N]()
        is_enough = partial(self.choose, order)
        try:
            if (row := await self._get_response_row(order)) is not None:
                return [row]
            found, shown = await find_named(self.list_rows, order.name, clock, is_enough, noun=order.kind)
            # The row may have appeared meanwhile, under a name that the server changed.
            if not found and (row := await self._get_response_row(order)) is not None:
                return [row]
        except errors.ClientClosedError:
            shown = "the client was closed"
        return self._decide(order, found, shown, error)

    def _decide(self, order: Order[T], found: list[N], shown: str, error: PrimePodsError) -> list[T]:
        if ours := self.choose(order, found):
            return ours
        raise _uncertain_error(order, [row.id for row in found], shown, error) from error

    async def _find_refused(self, order: Order[T], error: PrimePodsError) -> list[N]:
        """Return the rows that a refused order has created, or raise the refusal.

        Imagined: a gateway has sent the order twice, and returned the refusal of the second request. Under a
        name that the user chose, another program may order at the same time, so the list proves nothing.
        """
        is_refusal = isinstance(error, errors.APIError) and not isinstance(error, KEY_REJECTIONS)
        if order.is_unique and is_refusal:
            listed, _ = await read_list(self.list_rows, self.executor.settings.clock)
            if found := [row for row in listed if is_same_name(order.name, row.name)]:
                log.warning(
                    "the order of the %s %r was refused, but it was also carried out: %s",
                    order.kind,
                    order.name,
                    error,
                )
                return found
        # A copy: `error` itself, if raised, would make a reference cycle through the caller's frame.
        raise copy_exception(error)

    async def _get_response_row(self, order: Order[T]) -> T | None:
        """Get the row with the id in the response; ``None`` if it is not provably this order's."""
        if order.response_id is None:
            return None
        try:
            row = await self.get(order.response_id)
        except errors.ClientClosedError:
            raise
        except (PrimePodsError, ValueError) as exc:
            log.info("%s %s could not be read: %s", order.kind, quote(order.response_id), exc)
            return None
        return row if order.owns_response_id(row) else None


def order_request(spec: PodSpec, team_id: str | None) -> Request:
    """Build the request that orders a pod, for the spec's team or else the client's."""
    wire_keys = wire_names(PodSpec).items()
    pod = {key: getattr(spec, name) for name, key in wire_keys if name not in _NOT_COPIED_TO_POD}
    if spec.image is None and spec.custom_template_id is not None:
        pod["image"] = CUSTOM_IMAGE
    if spec.env_vars:
        pod["envVars"] = [{"key": key, "value": value} for key, value in spec.env_vars.items()]
    pod = {key: value for key, value in pod.items() if value is not None}
    body: dict[str, Any] = {"pod": pod, "provider": {"type": spec.provider}}
    team = spec.team_id or team_id
    optional = {
        "disks": spec.disks,
        "team": team and {"teamId": team},
        # The schema spells these two in snake_case, unlike the other keys.
        "team_member_ids": spec.team_member_ids,
        "shared_with_team": spec.shared_with_team,
    }
    body |= {key: value for key, value in optional.items() if value}
    return Request(method="POST", path=f"{PODS}/", body=dumps(body))


def _uncertain_error(
    order: Order[Any], found: list[str], shown: str, error: PrimePodsError
) -> errors.CreateUncertainError:
    """Return the error of an order whose outcome is unknown; ids in ``found`` may be of other orders."""
    ids = [*found]
    if ids:
        search = f"The search for it found {order.kind}s of this name, but none is provably of this order: "
        search += f"{', '.join(ids)}."
    else:
        search = f"The search did not find it ({shown})."
    response = ""
    if order.response_id is not None and order.response_id not in ids:
        response = f"The response named {order.response_id}, which is not provably of this order. "
        ids.append(order.response_id)
    text = (
        f"It is unknown whether the {order.kind} {order.name!r} exists: {error} {response}{search} "
        f"{_remedy(order)}"
    )
    return errors.CreateUncertainError(text, name=order.name, candidates=tuple(ids))


def repeated_error(order: Order[Any], ids: Iterable[str]) -> errors.CreateUncertainError:
    """Return the error of an order that a gateway has sent several times."""
    ids = tuple(ids)
    return errors.CreateUncertainError(
        f"The order of the {order.kind} {order.name!r} was carried out {len(ids)} times, and each of these "
        f"{order.kind}s is billed: {', '.join(ids)}. Keep one and delete the others.",
        name=order.name,
        candidates=ids,
    )


def _remedy(order: Order[Any]) -> str:
    history = " and in `pods.history()`, in case it failed at once," if order.kind == "pod" else ""
    return (
        f"It may still appear, and is then billed. Look for {order.name!r} in `{order.kind}s.list()`{history}"
        " and delete it if you do not want it, before you order again."
    )
