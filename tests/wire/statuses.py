"""Rows of the status endpoint, and a server that refuses some."""

from collections.abc import Collection

from primepods._http.status_batches import MAX_IDS_PER_REQUEST
from tests.support.server import Answer, Received, Reply, Script, reply

STATUS = "/api/v1/pods/status"


def row(pod_id: str, status: str = "ACTIVE") -> dict[str, str]:
    """A status row as the schema demands it at least."""
    return {"podId": pod_id, "providerType": "x", "status": status}


def rows(request: Received, missing: Collection[str] = ()) -> Reply:
    """The rows that a request asks for, in the reverse of its order."""
    ids = [pod_id for pod_id in request.values("pod_ids") if pod_id not in missing]
    return reply({"data": [row(pod_id) for pod_id in reversed(ids)]})


def refusing(bad: Collection[str], status: int = 422, *, most: int = MAX_IDS_PER_REQUEST) -> Script:
    """A server that refuses requests with a bad id in them, or with too many ids."""

    def answer(request: Received) -> Answer:
        ids = request.values("pod_ids")
        if len(ids) > most or set(ids) & set(bad):
            return reply(
                {"errors": [{"param": "pod_ids", "details": f"refused number {request.number}"}]}, status
            )
        return rows(request)

    return answer


def ids_of(count: int) -> list[str]:
    """So many ids."""
    return [f"{n:032x}" for n in range(count)]
