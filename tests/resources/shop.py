"""An API with the offers, and the summary, that a test says."""

import json
from collections.abc import Iterable
from typing import Any

from tests.fixtures import document
from tests.support.server import Answer, Received, Server, reply

GPUS = "/api/v1/availability/gpus"
CLUSTERS = "/api/v1/availability/multi-node"
SUMMARY = "/api/v1/availability/gpu-summary"
CLUSTER_SUMMARY = "/api/v1/availability/multi-node-summary"

Row = dict[str, Any]


def row(cloud_id: str, price: float | None = 1.0, **fields: Any) -> Row:
    """An offer as the document has it, but for what is given."""
    first: Row = json.loads(json.dumps(document("offer")["items"][0]))
    return {**first, "cloudId": cloud_id, "prices": {"onDemand": price, "currency": "USD"}, **fields}


def shop(
    gpus: Iterable[Row], clusters: Iterable[Row] = (), *, count: int | None = None, summary: Any = None
) -> Server:
    """An API with these offers, which may say another count than it has; it filters by number of GPUs."""
    shelves = {GPUS: list(gpus), CLUSTERS: list(clusters)}

    def answer(request: Received) -> Answer:
        if request.path in {SUMMARY, CLUSTER_SUMMARY}:
            return reply({} if summary is None else summary)
        wanted = [int(value) for value in request.values("gpu_count")]
        rows = [row for row in shelves[request.path] if not wanted or row["gpuCount"] in wanted]
        size = int(request.values("page_size")[0])
        start = (int(request.values("page")[0]) - 1) * size
        total = len(rows) if count is None else count
        return reply({"items": rows[start : start + size], "totalCount": total})

    return Server(answer)
