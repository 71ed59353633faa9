"""Deleting pods and disks: success requires proof.

A status code proves nothing: a 404 may come from a gateway or a replica that lags behind, and a 200 may be
about another pod, or say that the pod is ACTIVE (all imagined). If the response to DELETE proves nothing,
reads of the pod decide, and DELETE is sent again until they do:

- a row with DELETING or TERMINATED: deleted; with another state: still there;
- a 404 or, after an accepted DELETE, a missing status row: absent, if the list does not show the pod either.

An absent pod counts as deleted if a response has shown it before, or if the history shows its end. Otherwise
it may not have appeared yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final

import attrs

from .._decoding.pods import DeletionResponse, decode_deletion, decode_state
from .._decoding.rows import decode_listed_ids
from .._http.backoff import backoff
from .._http.executor import RequestExecutor
from .._http.request import PODS, item_path, item_request, kind_of, page_request
from .._operations import LISTENERS
from .._status_reader import StatusReader
from .._utils.exceptions import copy_exception
from .._utils.text import quote
from ..errors import APIError, ClientClosedError, NotFoundError, PrimePodsError, ProtocolError
from ..models import HistoryRecord, PodState
from ..pagination import FetchedPage, offset_pager
from ._paging import fetch_page, page_source

_MAYBE_DELETED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.GONE})
"""Refusals of a deletion that may mean that the pod is already being deleted."""
_LIST_PAGE_SIZE: Final = 1_000


@attrs.define(eq=False, repr=False)
class _Attempt:
    """One DELETE whose response proves nothing, and what the reads after it have shown.

    Attributes:
        response: The response, for messages.
        is_accepted: Whether it said DELETING or TERMINATED, without naming the pod.
        refusal: The error of a refused DELETE, final unless the pod is already being deleted.
        not_found: The error of a 404, final if the pod is absent; ``None`` if that is success.
        shown: How the API shows the pod, as a phrase for messages; empty if no read has shown it.
        is_absent: Whether the last read of the pod did not find it; the list has to confirm that.
        error: The error to raise if no further attempt decides; by default, that the API still shows the pod.
    """

    response: str
    is_accepted: bool = False
    refusal: APIError | None = None
    not_found: NotFoundError | None = None
    shown: str = ""
    is_absent: bool = False
    error: ProtocolError | None = None


@attrs.define(kw_only=True, eq=False, repr=False)
class _Deletion:
    """The deletion of one pod, or of one disk.

    Attributes:
        pod_id: The pod.
        collection: The path of its list.
        may_be_missing: Whether a 404 to DELETE can be success.
        absence_is_success: Whether an absent pod counts as deleted without a record of its end, because a
            response has shown the pod, or ``missing_ok`` is set.
        attempt: The last DELETE, if its response proves nothing.
        outcome: The state to return or the error to raise; ``None`` while undecided.
    """

    pod_id: str
    collection: str
    may_be_missing: bool
    absence_is_success: bool
    attempt: _Attempt = attrs.field(factory=lambda: _Attempt(""))
    outcome: PodState | PrimePodsError | None = None

    @property
    def kind(self) -> str:
        """``pod`` or ``disk``."""
        return kind_of(self.collection)

    @property
    def needs_lookup(self) -> bool:
        """Whether the pod's state in the API must be read."""
        return self.outcome is None and not self.attempt.shown and not self.attempt.is_absent

    def record_response(self, response: DeletionResponse) -> None:
        """Record the response to DELETE: proof if it names the pod and says DELETING or TERMINATED."""
        is_accepted = response.state is not None and response.state.is_ending
        if is_accepted and response.pod_id == self.pod_id:
            self.outcome = response.state
        elif response.pod_id not in {None, self.pod_id}:
            self.attempt = _Attempt(f"a response about another {self.kind}, {quote(response.pod_id)}")
        elif is_accepted:
            self.attempt = _Attempt(str(response.state), is_accepted=True)
        else:
            self.attempt = _Attempt("a response without the status DELETING or TERMINATED")
        # The deletion may take effect later: from now on a 404 can mean success.
        self.may_be_missing = True
        self.absence_is_success = True

    def record_not_found(self, error: NotFoundError) -> None:
        """Record a 404 of DELETE. If the pod is absent, this is success, or the error to raise."""
        self.may_be_missing = self.may_be_missing or error.maybe_acted
        self.attempt = _Attempt("404", not_found=None if self.may_be_missing else error)

    def record_refusal(self, error: APIError) -> None:
        """Record a refusal of DELETE; some may mean that the pod is already being deleted."""
        if error.status_code not in _MAYBE_DELETED:
            self.outcome = error
        else:
            self.attempt = _Attempt(str(error.status_code), refusal=error)

    def record_state(self, state: PodState | None) -> None:
        """Record the pod's state in the API."""
        self.attempt.shown = "without a status" if state is None else f"with status {state}"
        self.absence_is_success = True
        if state is not None and state.is_ending:
            self.outcome = state

    def record_list(self, listed: set[str]) -> None:
        """Record the list's ids, for a pod that `get` does not show."""
        if self.pod_id in listed:
            self.attempt.shown, self.absence_is_success = "in the list, though not by its id", True

    def record_read_error(self, error: PrimePodsError) -> None:
        """Record an error of reading the pod or the list.

        The error ends the deletion. Only after a response with the wrong structure, DELETE is sent again,
        since its response may be proof.
        """
        got = self.attempt.response
        error.add_note(f"It is unknown whether {self.kind} {self.pod_id} is deleted: its DELETE got {got}.")
        if isinstance(error, ProtocolError) and not error.transient:
            self.attempt.error = error
        else:
            self.outcome = error

    def record_absence(self, ended_ids: set[str]) -> None:
        """Record that neither `get` nor the list shows the pod: it is gone, or has not appeared yet."""
        if self.attempt.not_found is not None:
            self.outcome = self.attempt.not_found
        elif self.absence_is_success or self.pod_id in ended_ids:
            self.outcome = PodState.TERMINATED
        else:
            path = item_path(self.pod_id, self.collection)
            self.attempt.error = ProtocolError(
                f"DELETE {path}: got {self.attempt.response}, and an earlier attempt got no usable response. "
                f"Neither the list nor the history shows the {self.kind}: it is gone, or it has not appeared "
                f"yet and will be billed. Look for it again with `{self.kind}s.get()`, and in "
                "`pods.history()`.",
                method="DELETE",
                url_path=path,
            )

    def fail(self, attempts: int) -> None:
        """End with the error that explains why the pod does not count as deleted."""
        path = item_path(self.pod_id, self.collection)
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        self.outcome = self.attempt.error or ProtocolError(
            f"DELETE {path}: got {self.attempt.response}, and the API still shows the {self.kind}, "
            f"{self.attempt.shown} ({times}). It may still be billed: try again, and look at it with "
            f"`{self.kind}s.get()`.",
            method="DELETE",
            url_path=path,
        )


class Deleter:
    """Deletes pods until their deletion is proved; or disks, one per call, since they have no statuses.

    Args:
        executor: Sends the requests.
        statuses: Reads the statuses of many pods.
        collection: The path of the list of what is deleted.
    """

    def __init__(self, executor: RequestExecutor, statuses: StatusReader, collection: str = PODS) -> None:
        self._executor = executor
        self._statuses = statuses
        self._collection = collection
        self._clock = executor.settings.clock

    async def delete(self, pod_id: str, *, missing_ok: bool) -> PodState:
        """Delete one pod; see :meth:`primepods.AsyncPods.delete`."""
        ends_at = self._clock.time() + self._executor.settings.deadline
        outcome = (await self.delete_many([pod_id], missing_ok=missing_ok, ends_at=ends_at))[pod_id]
        try:
            if isinstance(outcome, PodState):
                return outcome
            raise outcome
        finally:
            # Break the reference cycle between the error's traceback and this frame.
            del outcome

    async def delete_many(
        self, pod_ids: Sequence[str], *, missing_ok: bool, ends_at: float | None = None
    ) -> dict[str, PodState | PrimePodsError]:
        """Send the deletions, with retries, until all are proved or have failed; return the outcomes.

        Args:
            pod_ids: The pods.
            missing_ok: Whether a pod that does not exist counts as deleted.
            ends_at: Time to give up; by default each request has the client's deadline.
        """
        deletions = [
            _Deletion(
                pod_id=pod_id,
                collection=self._collection,
                may_be_missing=missing_ok,
                absence_is_success=missing_ok,
            )
            for pod_id in pod_ids
        ]
        pending = deletions
        attempt = 0
        while pending:
            attempt += 1
            await self._executor.map(partial(self._send, ends_at=ends_at), pending)
            await self._confirm(_undecided(pending), ends_at)
            for deletion in pending:
                if deletion.outcome is None:
                    # No read has shown that the pod is being deleted.
                    deletion.outcome = deletion.attempt.refusal
            pending = _undecided(pending)
            if pending and not await self._pause_before_retry(attempt, ends_at):
                for deletion in pending:
                    deletion.fail(attempt)
                break
        outcomes = {
            deletion.pod_id: deletion.outcome for deletion in deletions if deletion.outcome is not None
        }
        if self._collection == PODS:
            _report_events(outcomes)
        return outcomes

    async def _pause_before_retry(self, attempt: int, ends_at: float | None) -> bool:
        """Wait before the next attempt; return whether there is one."""
        policy = self._executor.settings.retry
        delay = backoff(policy, attempt, self._clock.random())
        is_late = ends_at is not None and self._clock.time() + delay >= ends_at
        if is_late or self._executor.has_given_up or attempt >= policy.attempts:
            return False
        with suppress(ClientClosedError):  # the next request raises it for its pod
            await self._executor.transport.pause(delay)
        return True

    async def _send(self, deletion: _Deletion, *, ends_at: float | None) -> None:
        """Send one deletion and record its response."""
        request = item_request("DELETE", deletion.pod_id, self._collection)
        try:
            deletion.record_response(await self._executor.call(request, decode_deletion, ends_at=ends_at))
        except NotFoundError as exc:
            deletion.record_not_found(exc.with_traceback(None))
        except APIError as exc:
            deletion.record_refusal(exc.with_traceback(None))
        except PrimePodsError as exc:
            deletion.outcome = exc.with_traceback(None)

    async def _confirm(self, deletions: list[_Deletion], ends_at: float | None) -> None:
        """Read the state of pods whose responses prove nothing."""
        if len(deletions) > 1:
            await self._read_statuses(deletions)
        unseen = [deletion for deletion in deletions if deletion.needs_lookup]
        await self._executor.map(partial(self._read_pod, ends_at=ends_at), unseen)
        absent = [deletion for deletion in _undecided(deletions) if deletion.attempt.is_absent]
        if absent:
            await self._check_list(absent, ends_at)

    async def _read_statuses(self, deletions: list[_Deletion]) -> None:
        """Read the status of many pods, a hundred per request."""
        try:
            response = await self._statuses.read([deletion.pod_id for deletion in deletions])
        except PrimePodsError:
            return  # each pod is then read separately
        for deletion in deletions:
            if deletion.pod_id in response.rows:
                deletion.record_state(response.rows[deletion.pod_id].status)
            # After an accepted DELETE, a missing row and the list are proof. Otherwise `_read_pod` is needed.
            elif deletion.attempt.is_accepted and deletion.pod_id not in response.errors:
                deletion.attempt.is_absent = True

    async def _read_pod(self, deletion: _Deletion, *, ends_at: float | None) -> None:
        """Read one pod."""
        request = item_request("GET", deletion.pod_id, self._collection)
        decode = partial(decode_state, pod_id=deletion.pod_id)
        try:
            deletion.record_state(await self._executor.call(request, decode, ends_at=ends_at))
        except NotFoundError:
            deletion.attempt.is_absent = True
        except PrimePodsError as exc:
            deletion.record_read_error(exc.with_traceback(None))

    async def _check_list(self, deletions: list[_Deletion], ends_at: float | None) -> None:
        """Confirm by the list that pods are gone: a 404 may also come from a misrouted request."""
        try:
            listed = await self._read_listed_ids(ends_at)
        except PrimePodsError as exc:
            for deletion in deletions:
                deletion.record_read_error(copy_exception(exc).with_traceback(None))
            return
        for deletion in deletions:
            deletion.record_list(listed)
        absent = [deletion for deletion in deletions if deletion.pod_id not in listed]
        # Only the history can show whether a pod that no response has shown is gone, or has not appeared yet.
        needs_history = any(
            not deletion.absence_is_success and deletion.attempt.not_found is None for deletion in absent
        )
        ended_ids = await self.ended_ids(ends_at) if needs_history else set[str]()
        for deletion in absent:
            deletion.record_absence(ended_ids)

    async def ended_ids(self, ends_at: float | None = None) -> set[str]:
        """Return the ids of the pods that have ended most recently; none if the history cannot be read."""
        request = page_request(
            f"{PODS}/history", offset=0, limit=_LIST_PAGE_SIZE, sort_by="terminatedAt", sort_order="desc"
        )
        try:
            page = await fetch_page(
                self._executor, request, HistoryRecord, offset=0, limit=_LIST_PAGE_SIZE, ends_at=ends_at
            )
        except PrimePodsError:
            return set()
        records = [row for row in page.rows if isinstance(row, HistoryRecord)]
        return {record.id for record in records if record.terminated_at is not None}

    async def _read_listed_ids(self, ends_at: float | None) -> set[str]:
        """Return the ids of all pods in the list, including unreadable rows.

        Raises:
            PrimePodsError: The list could not be read, or is shorter than the API's count.
        """
        path = f"{self._collection}/"

        async def fetch(offset: int, limit: int) -> FetchedPage[str]:
            decode = partial(decode_listed_ids, offset=offset, limit=limit)
            request = page_request(path, offset=offset, limit=limit)
            page = await self._executor.call(request, decode, ends_at=ends_at)
            return FetchedPage(
                total_count=page.total_count,
                offset=page.offset,
                limit=page.limit,
                rows=page.data,
                keys=page.data,
            )

        ids, error = await offset_pager(page_source(self._executor, fetch, path), _LIST_PAGE_SIZE).collect()
        if error is not None:
            raise error
        return set(ids)


def _report_events(outcomes: Mapping[str, PodState | PrimePodsError]) -> None:
    """Report the outcomes of deletions to ``on_event``."""
    listeners = LISTENERS.get()
    if listeners is None:
        return
    from ..events import DeletionEnded  # noqa: PLC0415 - loaded with the first on_event

    for pod_id, outcome in outcomes.items():
        if isinstance(outcome, PodState):
            event = DeletionEnded(pod_id=pod_id, state=str(outcome), error=None)
        else:
            event = DeletionEnded(pod_id=pod_id, state=None, error=type(outcome).__name__)
        listeners.notify(event)


def _undecided(deletions: list[_Deletion]) -> list[_Deletion]:
    return [deletion for deletion in deletions if deletion.outcome is None]
