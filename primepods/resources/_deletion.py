"""Deletion of pods and disks: success requires proof.

In this module, a pod may also be a disk. A status code proves nothing: a 404 may come from a gateway or a
replica that lags behind, and a 200 may be about another pod, or say that the pod is ACTIVE (all imagined).
After such a response, or a refusal in ``_MAYBE_DELETED``, the pod is read:

- A row with DELETING or TERMINATED proves the deletion.
- After a row with another state, DELETE is sent again, unless it was refused.
- If GET gets a 404, or if DELETE was accepted and the status response has nothing about the pod, the list is
  read. If it does not show the pod either, the pod is absent.

An absent pod counts as deleted if an earlier read has shown it, if DELETE got a successful response that is
not about another pod, or with ``missing_ok``. Otherwise, if DELETE got a 404 that no earlier attempt
explains, there is no such pod. Otherwise, the history decides. If it does not show the end of the pod, the
pod may not have appeared yet.
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
"""Refusals of a deletion that may mean that the pod is already being deleted (imagined)."""
_LIST_PAGE_SIZE: Final = 1_000


@attrs.frozen(eq=False, repr=False)
class _Response:
    """A response to DELETE that does not prove the deletion.

    Attributes:
        text: The response, as a phrase for messages.
        is_accepted: Whether it says DELETING or TERMINATED, but does not name the pod.
        refusal: The error of a status in ``_MAYBE_DELETED``.
        not_found: The error of a 404 that no earlier attempt explains.
    """

    text: str
    is_accepted: bool = False
    refusal: APIError | None = None
    not_found: NotFoundError | None = None


@attrs.frozen(eq=False, repr=False)
class _Finding:
    """Result of the reads after a DELETE.

    Attributes:
        shown: How the API shows the pod, as a phrase for messages; empty if no read has shown it.
        state: The pod's state, if a row has one.
        error: The error of a failed read, which may have missed the pod.
    """

    shown: str = ""
    state: PodState | None = None
    error: PrimePodsError | None = None

    @property
    def is_absent(self) -> bool:
        return not self.shown and self.error is None


_ABSENT: Final = _Finding()


@attrs.define(eq=False, repr=False)
class _Deletion:
    """The deletion of one pod or disk, with the results of its last attempt.

    Attributes:
        pod_id: The id of the pod or disk.
        collection: The path of its list.
        absence_is_success: Whether an absent pod counts as deleted; see the module.
        may_have_acted: Whether an earlier DELETE may have deleted the pod, so that a 404 does not prove a
            wrong id.
        response: The response to the last DELETE.
        finding: The result of the reads after it.
        outcome: The state to return or the error to raise; ``None`` while undecided.
    """

    pod_id: str
    collection: str
    absence_is_success: bool
    may_have_acted: bool = False
    response: _Response = _Response("")
    finding: _Finding = _ABSENT
    outcome: PodState | PrimePodsError | None = None

    def record_response(self, response: DeletionResponse) -> None:
        """Record a successful response; it is proof if it names the pod and says DELETING or TERMINATED."""
        if response.pod_id not in {None, self.pod_id}:
            kind = kind_of(self.collection)
            self.response = _Response(f"a response about another {kind}, {quote(response.pod_id)}")
            self.may_have_acted = True
            return
        # The API has received the DELETE: if the pod is absent later, it was deleted.
        self.absence_is_success = True
        if response.state is None or not response.state.is_ending:
            self.response = _Response("a response without the status DELETING or TERMINATED")
        elif response.pod_id is None:
            self.response = _Response(str(response.state), is_accepted=True)
        else:
            self.outcome = response.state

    def decide(self, finding: _Finding, ended_ids: set[str]) -> None:
        """Set the outcome, unless DELETE must be sent again."""
        self.finding = finding
        self.absence_is_success = self.absence_is_success or bool(finding.shown)
        error = finding.error
        if error is not None:
            error.add_note(
                f"It is unknown whether {kind_of(self.collection)} {self.pod_id} is deleted: its DELETE got "
                f"{self.response.text}."
            )
        # If a response to the reads was unreadable, the response to another DELETE may still be proof.
        is_unreadable = isinstance(error, ProtocolError) and not error.transient
        if finding.state is not None and finding.state.is_ending:
            self.outcome = finding.state
        elif finding.is_absent and self.absence_is_success:
            self.outcome = PodState.TERMINATED
        elif finding.is_absent and self.response.not_found is not None:
            # Ignore the history: it is read only if another pod needs it, and that pod must not change this
            # outcome.
            self.outcome = self.response.not_found
        elif finding.is_absent and self.pod_id in ended_ids:
            self.outcome = PodState.TERMINATED
        elif error is not None and not is_unreadable:
            self.outcome = error
        else:
            self.outcome = self.response.refusal

    def undecided_error(self, attempts: int) -> ProtocolError:
        """Return the error after the last attempt; it says why the pod does not count as deleted."""
        if isinstance(self.finding.error, ProtocolError):
            return self.finding.error
        kind, path = kind_of(self.collection), item_path(self.pod_id, self.collection)
        message = f"DELETE {path}: got {self.response.text}, and "
        if self.finding.shown:
            times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
            message += (
                f"the API still shows the {kind}, {self.finding.shown} ({times}). It may still be billed. "
                f"Try again, and look at it with `{kind}s.get()`."
            )
        else:
            message += (
                f"the list does not show the {kind}, and its end is not confirmed. It is gone, or it has not "
                f"appeared yet and will be billed. Look for it again with `{kind}s.get()`, and in "
                "`pods.history()`."
            )
        return ProtocolError(message, method="DELETE", url_path=path)


class Deleter:
    """Deleter of pods or disks, which requires proof of deletions.

    Delete one disk per call, because only pods have a status endpoint for several ids.
    """

    def __init__(self, executor: RequestExecutor, statuses: StatusReader, collection: str = PODS) -> None:
        self._executor = executor
        self._statuses = statuses
        self._collection = collection
        self._clock = executor.settings.clock

    async def delete(self, pod_id: str, *, missing_ok: bool) -> PodState:
        """Delete one pod or disk; see :meth:`primepods.AsyncPods.delete`."""
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
        """Delete pods concurrently; return the outcome of each.

        Args:
            pod_ids: Ids, without duplicates.
            missing_ok: Whether a pod that does not exist counts as deleted.
            ends_at: The latest time to give up, on the client's clock; by default, each request has its own
                deadline.
        """
        deletions = [_Deletion(pod_id, self._collection, absence_is_success=missing_ok) for pod_id in pod_ids]
        pending = deletions
        attempt = 0
        while pending:
            attempt += 1
            await self._executor.map(partial(self._send, ends_at=ends_at), pending)
            await self._confirm(_undecided(pending), ends_at)
            pending = _undecided(pending)
            if pending and not await self._pause_before_retry(attempt, ends_at):
                for deletion in pending:
                    deletion.outcome = deletion.undecided_error(attempt)
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
        with suppress(ClientClosedError):  # the next DELETE of each pod raises it
            await self._executor.transport.pause(delay)
        return True

    async def _send(self, deletion: _Deletion, *, ends_at: float | None) -> None:
        request = item_request("DELETE", deletion.pod_id, self._collection)
        try:
            deletion.record_response(await self._executor.call(request, decode_deletion, ends_at=ends_at))
        except NotFoundError as exc:
            deletion.may_have_acted = deletion.may_have_acted or exc.maybe_acted
            not_found = None if deletion.may_have_acted else exc.with_traceback(None)
            deletion.response = _Response("404", not_found=not_found)
        except PrimePodsError as exc:
            error = exc.with_traceback(None)
            if isinstance(error, APIError) and error.status_code in _MAYBE_DELETED:
                deletion.response = _Response(str(error.status_code), refusal=error)
            else:
                deletion.outcome = error

    async def _confirm(self, deletions: list[_Deletion], ends_at: float | None) -> None:
        """Read the state of pods whose responses do not prove the deletion, and decide their outcomes."""
        findings = await self._read_statuses(deletions) if len(deletions) > 1 else {}
        unseen = [deletion.pod_id for deletion in deletions if deletion.pod_id not in findings]
        read = await self._executor.map(partial(self._read_pod, ends_at=ends_at), unseen)
        findings |= dict(zip(unseen, read, strict=True))
        absent = [pod_id for pod_id, finding in findings.items() if finding.is_absent]
        if absent:
            findings |= await self._read_list(absent, ends_at)
        # Without the history, a pod that no response has shown may be gone, or may not have appeared yet.
        needs_history = any(
            findings[deletion.pod_id].is_absent
            and not deletion.absence_is_success
            and deletion.response.not_found is None
            for deletion in deletions
        )
        ended_ids = await self.read_ended_ids(ends_at) if needs_history else set[str]()
        for deletion in deletions:
            deletion.decide(findings[deletion.pod_id], ended_ids)

    async def _read_statuses(self, deletions: list[_Deletion]) -> dict[str, _Finding]:
        """Read the statuses of pods in batches; pods that are not in the result must be read by id."""
        try:
            response = await self._statuses.read([deletion.pod_id for deletion in deletions])
        except PrimePodsError:
            return {}
        findings = {pod_id: _shown_with(row.status) for pod_id, row in response.rows.items()}
        for deletion in deletions:
            # After an accepted DELETE, absence from the statuses and the list is proof. Otherwise, a GET is
            # needed.
            if deletion.response.is_accepted and deletion.pod_id not in response.errors:
                findings.setdefault(deletion.pod_id, _ABSENT)
        return findings

    async def _read_pod(self, pod_id: str, *, ends_at: float | None) -> _Finding:
        request = item_request("GET", pod_id, self._collection)
        decode = partial(decode_state, pod_id=pod_id)
        try:
            return _shown_with(await self._executor.call(request, decode, ends_at=ends_at))
        except NotFoundError:
            return _ABSENT
        except PrimePodsError as exc:
            return _Finding(error=exc.with_traceback(None))

    async def _read_list(self, absent: list[str], ends_at: float | None) -> dict[str, _Finding]:
        """Look for absent pods in the list: a 404 may come from a misrouted request (imagined)."""
        try:
            listed = await self._read_listed_ids(ends_at)
        except PrimePodsError as exc:
            # A copy for each pod, because `decide` adds a note.
            return {pod_id: _Finding(error=copy_exception(exc).with_traceback(None)) for pod_id in absent}
        is_listed = _Finding("in the list, though not by its id")
        return {pod_id: is_listed for pod_id in absent if pod_id in listed}

    async def read_ended_ids(self, ends_at: float | None = None) -> set[str]:
        """Return ids of ended pods and disks, from one page of the history; none if it cannot be read."""
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
        """Return the ids of all pods in the list, including those of unreadable rows.

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


def _shown_with(state: PodState | None) -> _Finding:
    return _Finding("without a status" if state is None else f"with status {state}", state)


def _undecided(deletions: list[_Deletion]) -> list[_Deletion]:
    return [deletion for deletion in deletions if deletion.outcome is None]
