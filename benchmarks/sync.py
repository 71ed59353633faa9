"""Time of blocking calls: `primepods.Client` against requests, httpx and the official `prime` client.

All clients send the same requests to the same server, in another process on this machine: one pod, the status
of 1,000 pods, the list of 10,000. The clients' samples are interleaved in rotating order; a table of medians
goes to the standard output. requests and httpx do the minimum to get the data: a session, the URL, `json()`.
Peers that are not installed are skipped and listed.

    python -m benchmarks.sync [--quick]

Needs the dependency group `bench`, and PyPI's `prime` for the official client.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from .fleet import pod_ids
from .measure import Job, interleave, seconds
from .server import KEY, running

PODS = 10_000
STATUS_PODS = 1_000
BATCH_SIZE = 100
_MIN_ROUNDED = 0.1
"""Seconds from which a figure is shown in whole milliseconds."""


class Peer(Protocol):
    """Interface of a measured client; each request method returns the number of pods."""

    def get(self, pod_id: str) -> int:
        """Request one pod."""
        ...

    def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        ...

    def list(self) -> int:
        """Read the whole list."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


class Ours:
    """primepods.Client."""

    distribution = "primepods"

    def __init__(self, url: str) -> None:
        self._client = import_module("primepods").Client(KEY, base_url=url)

    def get(self, pod_id: str) -> int:
        """Request one pod."""
        return int(self._client.pods.get(pod_id).id == pod_id)

    def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        return len(self._client.pods.statuses(ids))

    def list(self) -> int:
        """Read the whole list."""
        return sum(1 for _ in self._client.pods.list())

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class Official:
    """prime's PodsClient, used as in its own command; it reads pages and batches one after another."""

    distribution = "prime"

    def __init__(self, url: str) -> None:
        client = import_module("prime_cli.core").APIClient(api_key=KEY)
        client.base_url = url
        self._pods = import_module("prime_cli.api.pods").PodsClient(client)

    def get(self, pod_id: str) -> int:
        """Request one pod."""
        return int(self._pods.get(pod_id).id == pod_id)

    def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        return sum(
            len(self._pods.get_status(ids[at : at + BATCH_SIZE])) for at in range(0, len(ids), BATCH_SIZE)
        )

    def list(self) -> int:
        """Read the whole list."""
        count = 0
        while True:
            page = self._pods.list(offset=count, limit=BATCH_SIZE)
            count += len(page.data)
            if not page.data or count >= page.total_count:
                return count

    def close(self) -> None:
        """Do nothing: the client cannot be closed."""


class Plain:
    """A session of requests or httpx that returns dictionaries."""

    def __init__(self, session: Any, url: str) -> None:
        self._session = session
        self._session.headers["Authorization"] = f"Bearer {KEY}"
        self._url = f"{url}/api/v1/pods"

    def _get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        response = self._session.get(self._url + path, params=params, timeout=30.0)
        response.raise_for_status()
        return response.json()

    def get(self, pod_id: str) -> int:
        """Request one pod."""
        return int(self._get_json(f"/{pod_id}")["id"] == pod_id)

    def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        batches = [ids[at : at + BATCH_SIZE] for at in range(0, len(ids), BATCH_SIZE)]
        return sum(len(self._get_json("/status", {"pod_ids": batch})["data"]) for batch in batches)

    def list(self) -> int:
        """Read the whole list."""
        count = 0
        while True:
            page = self._get_json("/", {"offset": count, "limit": BATCH_SIZE})
            count += len(page["data"])
            if not page["data"] or count >= page["total_count"]:
                return count

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


class Requests(Plain):
    """requests.Session."""

    distribution = "requests"

    def __init__(self, url: str) -> None:
        super().__init__(import_module("requests").Session(), url)


class Httpx(Plain):
    """httpx.Client."""

    distribution = "httpx"

    def __init__(self, url: str) -> None:
        super().__init__(import_module("httpx").Client(), url)


PEERS: list[Any] = [Ours, Official, Requests, Httpx]


def jobs(peers: dict[str, Peer], *, calls: int) -> dict[str, dict[str, Job]]:
    """Return the job of each client for each call; a ``get`` is the average of ``calls``."""
    first, ids = pod_ids(0, 1)[0], pod_ids(0, STATUS_PODS)
    return {
        "`get`": {name: _job(partial(peer.get, first), 1, calls) for name, peer in peers.items()},
        "`statuses(1000)`": {
            name: _job(partial(peer.statuses, ids), STATUS_PODS) for name, peer in peers.items()
        },
        "`list(10,000)`": {name: _job(peer.list, PODS) for name, peer in peers.items()},
    }


def _job(call: Callable[[], int], expected: int, calls: int = 1) -> Job:
    def checked() -> None:
        count = call()
        assert count == expected, (count, expected)

    return lambda: seconds(checked, calls)


def installed() -> dict[str, Any]:
    """Return the installed peers; print the missing ones."""
    found = {}
    for kind in PEERS:
        try:
            version = importlib.metadata.version(kind.distribution)
        except importlib.metadata.PackageNotFoundError:
            print(f"{kind.distribution} is not installed and is left out")
        else:
            found[f"{kind.distribution} {version}"] = kind
    return found


def cell(seconds: float, ours: float) -> str:
    """Return a table cell: the figure and, for other clients, its ratio to ours."""
    digits = 2 if seconds < _MIN_ROUNDED else 0
    shown = f"{seconds * 1e3:,.{digits}f} ms"
    return shown if seconds == ours else f"{shown} ({seconds / ours:.2f}x)"


def machine() -> str:
    """Return a description of the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    names = ("aiohttp", "attrs", "cattrs", "orjson")
    libraries = [
        f"{d.name} {d.version}" for name in names for d in importlib.metadata.distributions(name=name)
    ]
    return (
        f"{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}; {', '.join(libraries)}"
    )


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    quick = parser.parse_args().quick
    # The official client reads, and may write, files in the home directory.
    os.environ["HOME"] = tempfile.mkdtemp()
    kinds = installed()
    print(f"{machine()}\n\n| call | server's delay | {' | '.join(kinds)} |\n|---|---|{'---|' * len(kinds)}")
    with running(PODS) as server:
        for delay, url in server.urls.items():
            peers = {name: kind(url) for name, kind in kinds.items()}
            for call, ways in jobs(peers, calls=10 if delay else 300).items():
                repetitions = 7 if call.startswith("`list") else 15
                samples = interleave(ways, repetitions=3 if quick else repetitions)
                medians = [statistics.median(samples[name]) for name in ways]
                cells = " | ".join(cell(median, medians[0]) for median in medians)
                print(f"| {call} | {delay * 1e3:.0f} ms | {cells} |", flush=True)


if __name__ == "__main__":
    main()
