"""Deleting a pod: a success only on proof.

A status alone proves nothing: ingresses and routers answer 404, too, replicas lag behind, and a 200 may say
that the pod is still ACTIVE. What the answer to the DELETE leaves open is settled by ``GET /pods/{id}``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from .._decoding.fields import DecodeError
from .._decoding.pods import decode_deletion, decode_pod
from .._http.backoff import backoff
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request, page_request, pod_request
from ..errors import NotFoundError, PrimePodsError, ProtocolError
from ..models import Pod, PodState
from ._paging import fetch_page

_ON_ITS_WAY_OUT: Final = frozenset({PodState.DELETING, PodState.TERMINATED})


class Deleter:
    """Deletes pods, each until it is provably on its way out.

    Args:
        executor: Sends the requests.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor
        self._clock = executor.settings.clock
        self._speaks_the_api = False

    async def delete(self, pod_id: str, *, missing_ok: bool) -> PodState:
        """Delete one pod; see :meth:`primepods.AsyncPods.delete`."""
        settings, request = self._executor.settings, pod_request("DELETE", pod_id)
        ends_at = self._clock.time() + settings.deadline
        may_be_deleted = missing_ok
        attempt = 0
        while True:
            attempt += 1
            answer = "an answer that names neither DELETING nor TERMINATED"
            try:
                state = await self._executor.call(request, decode_deletion, ends_at=ends_at)
            except NotFoundError as exc:
                if not (may_be_deleted or exc.maybe_acted):
                    raise
                state, answer = None, "404"
            if state is None or state not in _ON_ITS_WAY_OUT:
                state = await self._look(pod_id, answer, ends_at)
            if state is not None and state in _ON_ITS_WAY_OUT:
                return state
            # What was sent may work later than it is seen: from now on a 404 can be its success.
            may_be_deleted = True
            delay = backoff(settings.retry, attempt, self._clock.random())
            if attempt >= settings.retry.attempts or self._clock.time() + delay >= ends_at:
                raise _still_there(request, answer, state, attempt)
            await self._executor.transport.pause(delay)

    async def _look(self, pod_id: str, answer: str, ends_at: float) -> PodState | None:
        """Return the state that the API shows; TERMINATED for a pod that it provably has not."""
        request = pod_request("GET", pod_id)
        try:
            pod = await self._executor.call(request, partial(decode_pod, pod_id=pod_id), ends_at=ends_at)
        except NotFoundError:
            await self._check_base_url(ends_at)
            return PodState.TERMINATED
        except PrimePodsError as exc:
            exc.add_note(f"Whether pod {pod_id} is deleted could not be seen: its DELETE brought {answer}.")
            raise
        return pod.status

    async def _check_base_url(self, ends_at: float) -> None:
        """Have the API list pods, once: a server that is not the API answers 404 to everything.

        Raises:
            PrimePodsError: It does not.
        """
        if not self._speaks_the_api:
            request = page_request(f"{PODS}/", offset=0, limit=1)
            page = await fetch_page(self._executor, request, Pod, offset=0, limit=1, ends_at=ends_at)
            page.whole()
            if page.total_count is None:
                raise self._executor.shape_error(request, DecodeError("total_count", "is missing", None))
            self._speaks_the_api = True


def _still_there(request: Request, answer: str, state: PodState | None, attempts: int) -> ProtocolError:
    return ProtocolError(
        f"DELETE {request.path}: brought {answer}, and GET still shows the pod, with status {state} "
        f"({attempts} attempt{'s' if attempts > 1 else ''}). It is not deleted, and may be billed: try "
        "again, and look at it with `pods.get()`.",
        method=request.method,
        url_path=request.path,
    )
