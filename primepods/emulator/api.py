"""The operations of the pods API: parameters in, a reply out, the state in between. No sockets."""

import hmac
from collections.abc import Callable

from primepods.emulator import wire
from primepods.emulator.http import Call, Refused, Reply, choice, detail, integer, many, ok
from primepods.emulator.logs import log_lines
from primepods.emulator.pods import PodRecord
from primepods.emulator.routes import Route, Router
from primepods.emulator.world import World

PREFIX = "/api/v1"
DEFAULT_LIMIT = 100


class PodsApi:
    """What the API answers, for one account."""

    def __init__(self, world: World, *, api_key: str, max_page_size: int) -> None:
        self._world = world
        self._api_key = api_key
        self._max_page_size = max_page_size
        self._router = Router(
            [
                Route.of("GET", f"{PREFIX}/pods/", self._list),
                Route.of("GET", f"{PREFIX}/pods/history", self._history),
                Route.of("GET", f"{PREFIX}/pods/status", self._status),
                Route.of("GET", f"{PREFIX}/pods/{{pod_id}}", self._get),
                Route.of("DELETE", f"{PREFIX}/pods/{{pod_id}}", self._delete),
                Route.of("GET", f"{PREFIX}/pods/{{pod_id}}/log", self._log),
            ]
        )

    def answer(self, call: Call) -> Reply:
        """The reply to a call: always one, never an exception."""
        try:
            route, params = self._router.resolve(call)
            self._authenticate(call)
            with self._world.lock:
                return route.handler(call, **params)
        except Refused as refused:
            return refused.reply

    def _authenticate(self, call: Call) -> None:
        scheme, _, token = (call.authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(detail(403, "Not authenticated"))
        if not hmac.compare_digest(token.strip().encode(errors="replace"), self._api_key.encode()):
            raise Refused(detail(401, "Invalid token", {"WWW-Authenticate": "Bearer"}))

    def _paging(self, call: Call) -> tuple[int, int]:
        # The schema lets any integer in, but only natural ones out: clamped instead of refused.
        offset = max(0, integer(call, "offset", 0))
        limit = max(0, integer(call, "limit", DEFAULT_LIMIT))
        return offset, min(limit, self._max_page_size)

    def _list(self, call: Call) -> Reply:
        offset, limit = self._paging(call)
        world = self._world
        now = world.settle()
        rows = [wire.pod_row(record, world.clock.epoch, now) for record in world.page(offset, limit)]
        return Reply(200, wire.page(rows, total=len(world.pods), offset=offset, limit=limit))

    def _get(self, call: Call, pod_id: str) -> Reply:
        del call
        record = self._known(pod_id)
        return Reply(200, wire.pod_row(record, self._world.clock.epoch, self._world.clock.now()))

    def _status(self, call: Call) -> Reply:
        now = self._world.settle()
        pods = self._world.pods
        wanted = dict.fromkeys(many(call, "pod_ids"))
        rows = [wire.status_row(pods[pod_id], now) for pod_id in wanted if pod_id in pods]
        return Reply(200, wire.status_answer(rows))

    def _delete(self, call: Call, pod_id: str) -> Reply:
        del call
        return ok({"status": self._world.delete(self._known(pod_id))})

    def _log(self, call: Call, pod_id: str) -> Reply:
        tail = integer(call, "tail", DEFAULT_LIMIT)
        record = self._known(pod_id)
        lines = log_lines(record, self._world.clock.epoch, self._world.clock.now())
        return ok({"data": "\n".join(lines[-tail:] if tail > 0 else [])})

    def _history(self, call: Call) -> Reply:
        offset, limit = self._paging(call)
        by = choice(call, "sort_by", ("terminatedAt", "createdAt"), "terminatedAt")
        order = choice(call, "sort_order", ("asc", "desc"), "desc")
        self._world.settle()
        rows = sorted(self._world.history, key=_sort_key(by), reverse=order == "desc")
        epoch = self._world.clock.epoch
        encoded = [wire.history_row(row, epoch) for row in rows[offset : offset + limit]]
        return Reply(200, wire.page(encoded, total=len(rows), offset=offset, limit=limit))

    def _known(self, pod_id: str) -> PodRecord:
        record = self._world.find(pod_id)
        if record is None:
            raise Refused(detail(404, "Pod not found"))
        return record


def _sort_key(by: str) -> Callable[[wire.HistoryRow], tuple[float, str]]:
    if by == "createdAt":
        return lambda row: (row.created, row.id)
    # What still runs sorts as the oldest: at the end of the default order.
    return lambda row: (row.terminated if row.terminated is not None else float("-inf"), row.id)
