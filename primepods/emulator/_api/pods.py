"""The operations on pods and on the history."""

from .._state.account import World
from .._state.market import Market, Offer
from .._state.pods import PodRecord
from .._state.ssh_keys import KeyRing
from . import shapes as wire
from .api import DEFAULT_LIMIT, PREFIX, paging
from .checks import json_body
from .http import Call, Refused, Reply, choice, detail, integer, many, ok
from .logs import log_lines
from .orders import Order
from .routes import Route


class PodsApi:
    """List, create, get, status, delete, log and history."""

    def __init__(self, world: World, market: Market, keys: KeyRing) -> None:
        self._world = world
        self._market = market
        self._keys = keys
        self._epoch = world.clock.epoch
        self._longest = world.nature.max_page_size

    def routes(self) -> list[Route]:
        """What there is to ask; literal paths before those with parameters."""
        pods = f"{PREFIX}/pods"
        return [
            Route.of("list", "GET", f"{pods}/", self._list),
            Route.of("create", "POST", f"{pods}/", self._create),
            Route.of("history", "GET", f"{pods}/history", self._history),
            Route.of("status", "GET", f"{pods}/status", self._status),
            Route.of("get", "GET", f"{pods}/{{pod_id}}", self._get),
            Route.of("delete", "DELETE", f"{pods}/{{pod_id}}", self._delete),
            Route.of("log", "GET", f"{pods}/{{pod_id}}/log", self._log),
        ]

    def _list(self, call: Call) -> Reply:
        offset, limit = paging(call, self._longest)
        scene = self._world.scene(call.lag)
        rows = [wire.pod_row(record, self._epoch, scene.now) for record in scene.page(offset, limit)]
        return Reply(200, wire.page(rows, total=len(scene.pods), offset=offset, limit=limit))

    def _get(self, call: Call, pod_id: str) -> Reply:
        scene = self._world.scene(call.lag)
        record = scene.pods.get(pod_id)
        if record is None:
            raise Refused(detail(404, "Pod not found"))
        return Reply(200, wire.pod_row(record, self._epoch, scene.now))

    def _status(self, call: Call) -> Reply:
        scene = self._world.scene(call.lag)
        wanted = dict.fromkeys(many(call, "pod_ids"))
        rows = [wire.status_row(scene.pods[pod_id], scene.now) for pod_id in wanted if pod_id in scene.pods]
        return Reply(200, wire.status_answer(rows))

    def _history(self, call: Call) -> Reply:
        offset, limit = paging(call, self._longest)
        by = choice(call, "sort_by", ("terminatedAt", "createdAt")) or "terminatedAt"
        order = choice(call, "sort_order", ("asc", "desc")) or "desc"
        rows = self._world.scene(call.lag).history.ordered(by, descending=order == "desc")
        encoded = [wire.history_row(row, self._epoch) for row in rows[offset : offset + limit]]
        return Reply(200, wire.page(encoded, total=len(rows), offset=offset, limit=limit))

    def _delete(self, call: Call, pod_id: str) -> Reply:
        del call
        return ok({"status": self._world.delete(self._known(pod_id))})

    def _log(self, call: Call, pod_id: str) -> Reply:
        tail = integer(call, "tail", DEFAULT_LIMIT)
        lines = log_lines(self._known(pod_id), self._epoch, self._world.clock.now())
        return ok({"data": "\n".join(lines[-tail:] if tail > 0 else [])})

    def _create(self, call: Call) -> Reply:
        order = Order(json_body(call))
        offer = order.check(self._market.find(order.text("cloudId") or ""))
        key_id = order.text("sshKeyId")
        if key_id is not None and key_id not in self._keys.keys:
            raise Refused(detail(400, "SSH key not found"))
        self._afford(offer)
        wishes = order.wishes(offer)
        wishes["appear_seconds"] = self._world.nature.appear_seconds
        record = self._world.conceive(order.text("name"), wishes)
        record.offer = offer.cloud_id
        record.disk_ids = order.disk_ids
        record.disk = order.integer("diskSize") or offer.disk.default
        record.vcpus = order.integer("vcpus") or offer.vcpus.default
        record.memory = order.integer("memory") or offer.memory.default
        self._world.enter(record)
        return Reply(200, wire.pod_row(record, self._epoch, record.created))

    def _afford(self, offer: Offer) -> None:
        if self._world.is_broke():
            raise Refused(detail(402, "Insufficient funds"))
        left = self._market.left(offer, self._world.settle(), self._world.living())
        if left is not None and left <= 0:
            raise Refused(detail(400, f"{offer.cloud_id} is sold out, choose another offer"))

    def _known(self, pod_id: str) -> PodRecord:
        record = self._world.find(pod_id)
        if record is None:
            raise Refused(detail(404, "Pod not found"))
        return record
