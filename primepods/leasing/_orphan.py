"""An orphaned pod: the lease file, the rows of the list, and the deletion."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

import attrs

from .._utils.unique_names import is_same_name
from ..errors import CreateUncertainError, NotFoundError, PrimePodsError
from ..models import HistoryRecord, Pod
from ._lease_file import LeaseFile
from ._record import LeaseRecord
from .account import Account
from .pods_api import APPEARS_WITHIN, find_namesakes, has_ended, may_have_name
from .sweep import OrphanedPod

_RELEASE_TIMEOUT: Final = 600.0
_INTERVAL: Final = 1.0
"""Seconds between two polls of a pod that is being deleted; short, since a user waits at a terminal."""


@attrs.define
class Orphan:
    """A lease whose process is dead, or a pod without a file.

    Attributes:
        name: The pod's name.
        ordered_at: When it was ordered.
        age: Seconds since the order of a lease, by the server's time.
        files: The locked files of the lease: two if the process was killed while it replaced a file.
        pods: The pods of the lease; several if a gateway has sent the order twice.
        is_listed: Whether the list shows the pods.
    """

    name: str
    ordered_at: datetime | None
    age: float = math.inf
    files: list[LeaseFile] = attrs.field(factory=list[LeaseFile])
    pods: list[OrphanedPod] = attrs.field(factory=list[OrphanedPod])
    is_listed: bool = False

    @classmethod
    def without_file(cls, pod: Pod) -> Orphan:
        """Return the orphan of a listed pod that no file names."""
        orphan = cls(str(pod.name), pod.created_at)
        orphan.set_listed([pod])
        return orphan

    @property
    def record(self) -> LeaseRecord:
        """Content of the first file."""
        return self.files[0].record

    @property
    def pod_id(self) -> str | None:
        """The pod's id, if a file has it."""
        return next((file.record.pod_id for file in self.files if file.record.pod_id), None)

    @property
    def must_have_appeared(self) -> bool:
        """Whether the order is so old that its pod, if there is one, is visible by now."""
        return self.age >= APPEARS_WITHIN

    @property
    def is_refused(self) -> bool:
        """Whether the order was refused, so that a pod is improbable."""
        return all(file.record.is_refused for file in self.files)

    def set_listed(self, pods: list[Pod]) -> None:
        """Set the pods to those that the list shows."""
        self.is_listed = bool(pods)
        self.pods = [
            OrphanedPod(name=pod.name, pod_id=pod.id, price_hr=pod.price_hr, created_at=self.ordered_at)
            for pod in pods
        ]

    def set_unlisted(self) -> None:
        """Set the pods to the recorded one, which the list does not show, but which may exist."""
        record = self.record
        self.pods = [
            OrphanedPod(
                name=record.name,
                pod_id=self.pod_id,
                price_hr=record.price_hr,
                created_at=record.ordered_at,
            )
        ]

    def owns(self, pod: Pod) -> bool:
        """Return whether a listed pod is of this lease: by its unique name, or its id and a similar name."""
        return any(
            is_same_name(file.record.name, pod.name)
            or (pod.id == file.record.pod_id and may_have_name(pod, file.record.name))
            for file in self.files
        )

    def has_id_of(self, pod: Pod) -> bool:
        """Return whether a file has the id of a pod."""
        return any(file.record.pod_id == pod.id for file in self.files)

    def has_ended(self, ended: list[HistoryRecord]) -> bool:
        """Return whether the history shows that the pod has ended."""
        return has_ended(self.record.name, self.pod_id, ended)

    def remove_files(self) -> None:
        """Remove the files, when the pods are gone."""
        for file in self.files:
            file.remove()

    async def delete(self, account: Account) -> dict[str, PrimePodsError | None]:
        """Delete the pods and confirm that they are terminated; return each pod's error or ``None``.

        The keys are ids, or the name if no id is known.
        """
        pod_ids = [pod.pod_id for pod in self.pods if pod.pod_id is not None]
        try:
            if not pod_ids:
                pod_ids = await self._search(account)
        except PrimePodsError as exc:
            return {self.name: exc}
        outcome = {pod_id: await self._delete(pod_id, account) for pod_id in pod_ids}
        if not any(outcome.values()):
            self.remove_files()
        return outcome

    async def _search(self, account: Account) -> list[str]:
        """Search by the name for the pods of a lease whose files have no id; return their ids.

        Raises:
            CreateUncertainError: No pod has appeared yet.
        """
        found, result = await find_namesakes(account.pods, self.record.name, account.settings.clock)
        if not found:
            text = f"Whether the pod {self.name!r} exists is unknown: {result}. Sweep again: it may appear."
            raise CreateUncertainError(text, name=self.name)
        return [pod.id for pod in found]

    async def _delete(self, pod_id: str, account: Account) -> PrimePodsError | None:
        """Delete one pod and confirm that it is terminated; return the error if that fails."""
        # While a pod may still appear, a 404 does not prove that it is deleted.
        may_appear = not self.is_listed and not self.must_have_appeared
        try:
            # If the pod may appear, without retries: they take a 404 as the success of an earlier attempt.
            pods = account.pods_once if may_appear else account.pods
            await pods.delete(pod_id, missing_ok=not may_appear)
            await account.pods.wait_gone(pod_id, timeout=_RELEASE_TIMEOUT, interval=_INTERVAL)
        except NotFoundError as exc:
            exc.add_note("The order is so recent that its pod may still appear: sweep again in ten minutes.")
            return exc
        except PrimePodsError as exc:
            return exc
        except ValueError as exc:
            # Another program wrote the file, with an invalid id.
            return PrimePodsError(f"The file of {self.name!r} cannot be used: {exc} Remove it by hand.")
        return None
