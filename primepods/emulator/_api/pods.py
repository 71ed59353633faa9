"""Endpoints for pods and their history."""

from __future__ import annotations

from functools import partial

from .._state.account import Account
from .._state.catalog import CPU_NODE
from .._state.history import HistoryRow
from .._state.pods import PodRecord
from ..clock import timestamp
from . import shapes
from .http import Call, Response, detail, ok, query_choice, query_integer, query_values, refuse
from .orders import Order
from .router import Route


class PodsApi:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._epoch = account.clock.epoch
        self._max_page_size = account.config.max_page_size

    def routes(self) -> list[Route]:
        return [
            Route("list", "GET", "/pods/", self._list),
            Route("create", "POST", "/pods/", self._create),
            Route("history", "GET", "/pods/history", self._history),
            Route("status", "GET", "/pods/status", self._status),
            Route("get", "GET", "/pods/{pod_id}", self._get),
            Route("delete", "DELETE", "/pods/{pod_id}", self._delete),
            Route("log", "GET", "/pods/{pod_id}/log", self._log),
        ]

    def _list(self, request: Call) -> Response:
        view = self._account.view(request.lag)

        def row(record: PodRecord) -> bytes:
            return shapes.pod_row(record, self._epoch, view.now)

        return shapes.page_of(request, list(view.pods.values()), row, self._max_page_size)

    def _get(self, request: Call, pod_id: str) -> Response:
        record, now = self._find(request, pod_id)
        return Response(200, shapes.pod_row(record, self._epoch, now))

    def _status(self, request: Call) -> Response:
        view = self._account.view(request.lag)
        wanted = dict.fromkeys(query_values(request, "pod_ids"))
        rows = [shapes.status_row(view.pods[pod_id], view.now) for pod_id in wanted if pod_id in view.pods]
        return Response(200, b'{"data":[' + b",".join(rows) + b'],"status":null}')

    def _history(self, request: Call) -> Response:
        by = query_choice(request, "sort_by", ("terminatedAt", "createdAt")) or "terminatedAt"
        order = query_choice(request, "sort_order", ("asc", "desc")) or "desc"

        def key(row: HistoryRow) -> tuple[float, str]:
            # By `terminatedAt`, running resources sort as the oldest: last in the default order.
            end = float("-inf") if row.terminated is None else row.terminated
            return row.created if by == "createdAt" else end, row.id

        rows = sorted(self._account.view(request.lag).history, key=key, reverse=order == "desc")
        return shapes.page_of(
            request, rows, partial(shapes.history_row, epoch=self._epoch), self._max_page_size
        )

    def _delete(self, request: Call, pod_id: str) -> Response:
        record, _ = self._find(request, pod_id)
        return ok({"status": self._account.delete(record, lost_after=request.deletion_lost_after)})

    def _log(self, request: Call, pod_id: str) -> Response:
        tail = query_integer(request, "tail", default=100)
        record, now = self._find(request, pod_id)
        lines = self._log_lines(record, now)
        return ok({"data": "\n".join(lines[-tail:] if tail > 0 else [])})

    def _create(self, request: Call) -> Response:
        account = self._account
        order = Order(request)
        offer = order.find_offer(account.market)
        key_id = order.pod.get("sshKeyId")
        if key_id is not None and key_id not in account.keys.by_id:
            raise refuse(400, "SSH key not found")
        disks = order.find_disks(account.disks_at(), offer)
        if account.is_out_of_funds():
            raise refuse(402, "Insufficient funds")
        remaining = account.remaining_stock(offer.cloud_id)
        if remaining is not None and remaining <= 0:
            raise refuse(400, f"{offer.cloud_id} is sold out, choose another offer")
        record = account.create(order.pod.get("name"), order.overrides(offer, account))
        record.appears = record.created + account.config.appear_seconds
        order.apply_to(record, offer, disks)
        record.dead_gpus = request.dead_gpus
        account.add(record)
        return Response(200, shapes.pod_row(record, self._epoch, record.created))

    def gpus(self, address: str) -> Response:
        """Return the GPUs of the node with an address, for ``nvidia-smi``; 404 if there is no such node."""
        with self._account.lock:
            for record in self._account.view().pods.values():
                addresses = record.addresses()
                if address in addresses:
                    count = 0 if record.gpu_name == CPU_NODE.name else record.gpu_count // record.nodes
                    # The dead GPUs are the last ones of the last node.
                    dead = record.dead_gpus if address == addresses[-1] else 0
                    return ok({"name": record.gpu_name, "count": count, "dead": min(dead, count)})
        return detail(404, "No pod has this address")

    def _find(self, request: Call, pod_id: str) -> tuple[PodRecord, float]:
        view = self._account.view(request.lag)
        if pod_id not in view.pods:
            raise refuse(404, "Pod not found")
        return view.pods[pod_id], view.now

    def _log_lines(self, record: PodRecord, now: float) -> list[str]:
        """Return the boot log until ``now``, oldest line first."""
        lines: list[str] = []
        for step in record.timeline:
            if record.created + step.at > now:
                break
            at = timestamp(self._epoch, record.created + step.at)
            stage = step.stage
            lines.append(f"{at} pod {stage.status.lower()}, installation {stage.installation.lower()}")
            if stage.failure is not None:
                lines.append(f"{at} error: {stage.failure}")
        return lines
