"""Prometheus metrics of an account: pods and disks, their prices, pods left behind, and the wallet.

``primepods exporter`` serves these metrics. Needs the extra ``exporter``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily

from .._utils.concurrency import map_bounded
from .._utils.unique_names import is_unique
from ..client import AsyncClient
from ..errors import PrimePodsError
from ..runs import list_runs

log: logging.Logger = logging.getLogger("primepods")

_POD_LABELS = ("status", "gpu", "provider", "team", "leased")
_DISK_LABELS = ("status", "provider", "team")
_UP_TEXT = "Whether the last reading of this part of the account succeeded."
_LEASES_TEXT = "Pods that processes of this machine have left behind."
_EXPIRED_TEXT = "Pods whose names say that their max_hours ended at least 15 minutes ago."

Values = Mapping[tuple[str, ...], float]


class Exporter:
    """Collector of the metrics of one account, for a Prometheus registry.

    Only :meth:`look` sends requests; a scrape gets the metrics of the last look. If a part of the account
    cannot be read, its own metrics are missing, and ``primepods_up`` is 0 for it.

    Args:
        client: The client, which the exporter does not close.
        timeout: Seconds for each part of a look; the parts are read concurrently.
    """

    def __init__(self, client: AsyncClient, *, timeout: float = 60.0) -> None:
        self._client = client
        self._timeout = timeout
        self._server_clock = client._executor.transport.server_clock  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public name has it
        self._succeeded_at: dict[tuple[str, ...], float] = {}
        self._parts: dict[str, Callable[[], Awaitable[Sequence[Metric]]]] = {
            "pods": self._read_pods,
            "leases": partial(self._read_sweep, "leases_without_process", _LEASES_TEXT, is_expired=False),
            "expired": partial(self._read_sweep, "pods_expired", _EXPIRED_TEXT, is_expired=True),
            "runs": self._read_runs,
            "disks": self._read_disks,
            "wallet": self._read_wallet,
        }
        self._metrics: Sequence[Metric] = self._status({})

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last look; any thread may call this."""
        return iter(self._metrics)

    async def look(self) -> None:
        """Read all parts of the account once. A part's PrimePodsError or timeout is logged, not raised."""
        read = dict(await map_bounded(self._read_part, list(self._parts), len(self._parts)))
        metrics = [metric for found in read.values() for metric in found or ()]
        self._metrics = [*self._status(read), *metrics]

    async def _read_part(self, part: str) -> tuple[str, Sequence[Metric] | None]:
        """Return a part's name with its metrics, or with ``None`` if it cannot be read."""
        try:
            async with asyncio.timeout(self._timeout):
                metrics = await self._parts[part]()
        except (PrimePodsError, TimeoutError) as exc:
            reason = str(exc) or f"it took longer than {self._timeout:g} s"
            log.warning("the exporter cannot read the part %r: %s", part, reason)
            return part, None
        self._succeeded_at[part,] = time.time()
        return part, metrics

    def _status(self, read: Mapping[str, Sequence[Metric] | None]) -> list[Metric]:
        """Return the metrics that say which parts were read, and when."""
        up: Values = {(part,): float(read.get(part) is not None) for part in self._parts}
        text = "Time of the last reading that succeeded."
        return [
            _gauge("up", _UP_TEXT, ["part"], up),
            _gauge("last_success_timestamp_seconds", text, ["part"], self._succeeded_at),
        ]

    async def _read_pods(self) -> Sequence[Metric]:
        numbers = Counter[tuple[str, ...]]()
        prices = defaultdict[tuple[str, ...], float](float)
        ages = defaultdict[tuple[str, ...], float](float)
        async for pod in self._client.pods.list():
            leased = "yes" if is_unique(pod.name or "") else "no"
            labels = str(pod.status or ""), pod.gpu_name, pod.provider_type, pod.team_id or "", leased
            numbers[labels] += 1
            prices[*labels, pod.base_currency or "USD"] += pod.current_price_hr
            if pod.created_at is not None:
                # The server has set the time of creation, so use its clock.
                now = self._server_clock.now() or time.time()
                ages[labels[:1]] = max(ages[labels[:1]], now - pod.created_at.timestamp())
        return [
            _gauge("pods", "Pods that exist.", _POD_LABELS, numbers),
            _gauge("price_per_hour", "Price per hour of all pods.", [*_POD_LABELS, "currency"], prices),
            _gauge("pod_age_seconds", "Age of the oldest pod.", ["status"], ages),
        ]

    async def _read_sweep(self, name: str, text: str, *, is_expired: bool) -> Sequence[Metric]:
        """Return the metric of the pods that a sweep would delete; delete nothing."""
        sweep = await self._client.pods.sweep(expired=is_expired, dry_run=True)
        if sweep.errors:
            raise next(iter(sweep.errors.values()))
        return [_gauge(name, text, (), {(): len(sweep.found)})]

    async def _read_runs(self) -> Sequence[Metric]:
        runs, _ = await asyncio.to_thread(list_runs)
        numbers = Counter[tuple[str, ...]]((run.state,) for run in runs)
        # Held pods cost money without work: the metric exists before there is one.
        numbers["holding",] += 0
        return [_gauge("runs", "Runs of this machine.", ["state"], numbers)]

    async def _read_disks(self) -> Sequence[Metric]:
        numbers = Counter[tuple[str, ...]]()
        prices = defaultdict[tuple[str, ...], float](float)
        async for disk in self._client.disks.list():
            labels = (str(disk.status or ""), disk.provider_type or "", disk.team_id or "")
            numbers[labels] += 1
            prices[labels] += disk.price_hr or 0.0
        return [
            _gauge("disks", "Disks that exist.", _DISK_LABELS, numbers),
            _gauge("disks_price_per_hour", "Price per hour of all disks.", _DISK_LABELS, prices),
        ]

    async def _read_wallet(self) -> Sequence[Metric]:
        wallet = await self._client.account.wallet(limit=1)
        balance: Values = {(wallet.currency or "USD",): wallet.balance}
        return [_gauge("wallet_balance", "Balance of the wallet.", ["currency"], balance)]


async def serve(client: AsyncClient, *, host: str, port: int, interval: float) -> None:
    """Serve the metrics on ``host`` and ``port`` until cancelled, with ``interval`` seconds between looks.

    Reading one part of the account may take up to ``interval`` seconds.

    Raises:
        OSError: The address or port cannot be used.
    """
    exporter = Exporter(client, timeout=interval)
    registry = CollectorRegistry()
    registry.register(exporter)
    server, thread = start_http_server(port, host, registry)
    log.info("serving metrics on http://%s:%s/metrics", host, server.server_port)
    try:
        while True:
            await exporter.look()
            await asyncio.sleep(interval)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def _gauge(name: str, text: str, labels: Sequence[str], values: Values) -> Metric:
    gauge = GaugeMetricFamily(f"primepods_{name}", text, labels=labels)
    for names, value in values.items():
        gauge.add_metric(names, value)
    return gauge
