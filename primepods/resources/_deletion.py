"""Deletion of pods and disks, here called resources: success requires proof.

A status code proves nothing: a 404 may come from a gateway or a replica that lags behind, and a 200 may be
about another resource, or say that it is ACTIVE (all imagined). So after most responses to DELETE, the
resource is read. :func:`_verdict` has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final

import attrs

from .._decoding.pods import decode_deletion, decode_state
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
from ._paging import MAX_LIMIT, fetch_page, page_source

_UNPROVEN: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE}
)
"""Errors of a DELETE after which the resource is read: it may be deleted already (imagined, except 404)."""


@attrs.frozen(eq=False, repr=False)
class _Answer:
    """The response to a DELETE, or its error.

    Attributes:
        text: The response, as a phrase for messages.
        state: DELETING or TERMINATED, if the response says so.
        is_named: Whether it also names the resource, which is proof.
        error: The error.
    """

    text: str
    state: PodState | None = None
    is_named: bool = False
    error: PrimePodsError | None = None


@attrs.frozen(eq=False, repr=False)
class _Finding:
    """Result of the reads after a DELETE.

    Attributes:
        shown: How the API shows the resource, as a phrase for messages; empty if no read has shown it.
        state: The resource's state, if a row has one.
        error: The error of a failed read, which may have missed the resource.
    """

    shown: str = ""
    state: PodState | None = None
    error: PrimePodsError | None = None

    @property
    def is_absent(self) -> bool:
        """Whether neither GET, or the statuses after an accepted DELETE, nor the list have it."""
        return not self.shown and self.error is None


_ABSENT: Final = _Finding()


@attrs.frozen(eq=False, repr=False)
class _Evidence:
    """All that is known about the deletion of one resource.

    Attributes:
        resource_id: The id of the resource.
        counts_if_absent: Whether an absent resource counts as deleted: ``missing_ok`` was given, a read has
            shown the resource, or a DELETE got a successful response that is not about another one.
        may_have_acted: Whether an attempt may have deleted it, so that a 404 does not prove a wrong id.
        answer: The response to the last DELETE.
        finding: The result of the reads after it; ``None`` before them.
        is_ended: Whether the history shows its end.
    """

    resource_id: str
    counts_if_absent: bool
    may_have_acted: bool = False
    answer: _Answer = _Answer("")
    finding: _Finding | None = None
    is_ended: bool = False


def _verdict(evidence: _Evidence) -> PodState | PrimePodsError | None:
    """Return the state to return, the error to raise, or ``None`` if DELETE must be sent again.

    The first row that applies decides:

    ======================================================================  ===============
    Evidence                                                                Verdict
    ======================================================================  ===============
    the response to DELETE names the resource, with DELETING or TERMINATED  that state
    DELETE failed, and not with a status in ``_UNPROVEN``                   the error
    a read shows DELETING or TERMINATED                                     that state
    absent, does not count, and DELETE got a 404 that no attempt explains   the 404
    absent, and counts as deleted                                           TERMINATED
    absent, and the history shows its end                                   TERMINATED
    a read failed, and not because a response was unreadable                that error
    DELETE was refused                                                      the refusal
    anything else                                                           none
    ======================================================================  ===============
    """
    answer, finding, error = evidence.answer, evidence.finding, evidence.answer.error
    if answer.is_named:
        return answer.state
    if error is not None and not (isinstance(error, APIError) and error.status_code in _UNPROVEN):
        return error
    if finding is None:
        return None
    if finding.state is not None and finding.state.is_ending:
        return finding.state
    is_not_found = isinstance(error, NotFoundError)
    if finding.is_absent:
        # Without regard to the history, which is read only if another resource needs it.
        if is_not_found and not (evidence.counts_if_absent or evidence.may_have_acted):
            return error
        if evidence.counts_if_absent or evidence.is_ended:
            return PodState.TERMINATED
    # If a read was unreadable, the response to another DELETE may still be proof.
    is_unreadable = isinstance(finding.error, ProtocolError) and not finding.error.transient
    if finding.error is not None and not is_unreadable:
        return finding.error
    return None if is_not_found else error


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
        evidence = {pod_id: _Evidence(pod_id, counts_if_absent=missing_ok) for pod_id in pod_ids}
        attempt = 0
        while pending := [item for item in evidence.values() if _verdict(item) is None]:
            if attempt and not await self._pause_before_retry(attempt, ends_at):
                break
            attempt += 1
            sent = await self._executor.map(partial(self._send, ends_at=ends_at), pending)
            unproven = [item for item in sent if _verdict(item) is None]
            for item in [*sent, *await self._read(unproven, ends_at)]:
                evidence[item.resource_id] = item
        outcomes = {key: self._outcome(item, attempt) for key, item in evidence.items()}
        if self._collection == PODS and (listeners := LISTENERS.get()) is not None:
            for pod_id, outcome in outcomes.items():
                is_error = isinstance(outcome, PrimePodsError)
                state, error = (None, type(outcome).__name__) if is_error else (str(outcome), None)
                listeners.report("DeletionEnded", pod_id=pod_id, state=state, error=error)
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

    def _outcome(self, evidence: _Evidence, attempts: int) -> PodState | PrimePodsError:
        """Return the verdict, or the error after the last attempt, which says what is not proven."""
        kind, path = kind_of(self._collection), item_path(evidence.resource_id, self._collection)
        answer, finding = evidence.answer, evidence.finding or _ABSENT
        outcome = _verdict(evidence)
        if outcome is None and isinstance(finding.error, ProtocolError):
            outcome = finding.error
        if outcome is None:
            message = f"DELETE {path}: got {answer.text}, and "
            if finding.shown:
                times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
                message += (
                    f"the API still shows the {kind}, {finding.shown} ({times}). It may still be billed. "
                    f"Try again, and look at it with `{kind}s.get()`."
                )
            else:
                message += (
                    f"the list does not show the {kind}, and its end is not confirmed. It is gone, or it has "
                    f"not appeared yet and will be billed. Look for it again with `{kind}s.get()`, and in "
                    "`pods.history()`."
                )
            return ProtocolError(message, method="DELETE", url_path=path)
        if finding.error is not None and outcome is finding.error:
            finding.error.add_note(
                f"It is unknown whether {kind} {evidence.resource_id} is deleted: its DELETE got "
                f"{answer.text}."
            )
        return outcome

    async def _send(self, evidence: _Evidence, *, ends_at: float | None) -> _Evidence:
        """Send a DELETE; return the evidence with its response, without the findings of earlier attempts."""
        request = item_request("DELETE", evidence.resource_id, self._collection)
        sent = partial(attrs.evolve, evidence, finding=None)
        try:
            response = await self._executor.call(request, decode_deletion, ends_at=ends_at)
        except PrimePodsError as exc:
            text = str(exc.status_code) if isinstance(exc, APIError) else ""
            has_acted = evidence.may_have_acted or (isinstance(exc, NotFoundError) and exc.maybe_acted)
            return sent(answer=_Answer(text, error=exc.with_traceback(None)), may_have_acted=has_acted)
        if response.pod_id not in {None, evidence.resource_id}:
            another = f"a response about another {kind_of(self._collection)}, {quote(response.pod_id)}"
            return sent(answer=_Answer(another), may_have_acted=True)
        # The API has received the DELETE: if the resource is absent later, it was deleted.
        answer = _Answer("a response without the status DELETING or TERMINATED")
        if response.state is not None and response.state.is_ending:
            answer = _Answer(str(response.state), response.state, is_named=response.pod_id is not None)
        return sent(answer=answer, counts_if_absent=True)

    async def _read(self, sent: list[_Evidence], ends_at: float | None) -> list[_Evidence]:
        """Read the resources whose deletion is not proven; return the evidence with the findings."""
        findings = await self._read_statuses(sent) if len(sent) > 1 else {}
        unseen = [item.resource_id for item in sent if item.resource_id not in findings]
        read = await self._executor.map(partial(self._read_one, ends_at=ends_at), unseen)
        findings |= dict(zip(unseen, read, strict=True))
        absent = [key for key, finding in findings.items() if finding.is_absent]
        if absent:
            findings |= await self._read_list(absent, ends_at)
        # A resource that no response has shown may be gone, or may not have appeared yet.
        needs_history = any(
            findings[item.resource_id].is_absent
            and not item.counts_if_absent
            and (item.may_have_acted or not isinstance(item.answer.error, NotFoundError))
            for item in sent
        )
        ended_ids = await self.read_ended_ids(ends_at) if needs_history else set[str]()
        return [
            attrs.evolve(
                item,
                finding=(finding := findings[item.resource_id]),
                counts_if_absent=item.counts_if_absent or bool(finding.shown),
                is_ended=item.resource_id in ended_ids,
            )
            for item in sent
        ]

    async def _read_statuses(self, sent: list[_Evidence]) -> dict[str, _Finding]:
        """Read the statuses of pods in batches; pods that are not in the result must be read by id."""
        try:
            response = await self._statuses.read([item.resource_id for item in sent])
        except PrimePodsError:
            return {}
        findings = {pod_id: _shown_with(row.status) for pod_id, row in response.rows.items()}
        for item in sent:
            # After an accepted DELETE, absence from the statuses and the list is proof. Otherwise, a GET is
            # needed.
            if item.answer.state is not None and item.resource_id not in response.errors:
                findings.setdefault(item.resource_id, _ABSENT)
        return findings

    async def _read_one(self, resource_id: str, *, ends_at: float | None) -> _Finding:
        request = item_request("GET", resource_id, self._collection)
        decode = partial(decode_state, pod_id=resource_id)
        try:
            return _shown_with(await self._executor.call(request, decode, ends_at=ends_at))
        except NotFoundError:
            return _ABSENT
        except PrimePodsError as exc:
            return _Finding(error=exc.with_traceback(None))

    async def _read_list(self, absent: list[str], ends_at: float | None) -> dict[str, _Finding]:
        """Look for absent resources in the list: a 404 may come from a misrouted request (imagined)."""
        try:
            listed = await self._read_listed_ids(ends_at)
        except PrimePodsError as exc:
            # A copy for each, because each gets a note.
            return {key: _Finding(error=copy_exception(exc).with_traceback(None)) for key in absent}
        is_listed = _Finding("in the list, though not by its id")
        return {key: is_listed for key in absent if key in listed}

    async def read_ended_ids(self, ends_at: float | None = None) -> set[str]:
        """Return ids of ended pods and disks, from one page of the history; none if it cannot be read."""
        request = page_request(
            f"{PODS}/history", offset=0, limit=MAX_LIMIT, sort_by="terminatedAt", sort_order="desc"
        )
        try:
            page = await fetch_page(
                self._executor, request, HistoryRecord, offset=0, limit=MAX_LIMIT, ends_at=ends_at
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

        ids, error = await offset_pager(page_source(self._executor, fetch, path), MAX_LIMIT).collect()
        if error is not None:
            raise error
        return set(ids)


def _shown_with(state: PodState | None) -> _Finding:
    return _Finding("without a status" if state is None else f"with status {state}", state)
