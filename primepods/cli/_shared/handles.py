"""Resolution of handles, the texts that users type for pods, disks and SSH keys."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Final, Generic, TypeVar

import typer

import primepods

from .completion import Row, complete_pods
from .errors import SEE_LISTS, CommandError, ExitCode
from .table import print_info
from .text import printable

MIN_PREFIX: Final = 4
"""Min length of an id prefix."""
_WHOLE_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RUN: Final = re.compile(r".+-[0-9a-hjkmnp-tv-z]{10}")
"""Name of a run, with its random suffix. The names of its pods begin with it."""
_POD_OF_RUN: Final = re.compile(rf"({_RUN.pattern})-[0-9a-hjkmnp-tv-z]{{10}}(-x[0-9a-z]+)?")
_HELP: Final = f"A pod: its id, a prefix of its id ({MIN_PREFIX} characters or more), or its name or run"

_Handles = typer.Argument(
    help=f"{_HELP}. Use - to read them from stdin.",
    metavar="POD",
    autocompletion=complete_pods,
    show_default=False,
)
_Handle = typer.Argument(help=f"{_HELP}.", metavar="POD", autocompletion=complete_pods, show_default=False)
PodHandles = Annotated[list[str], _Handles]
OptionalPodHandles = Annotated[list[str] | None, _Handles]
PodHandle = Annotated[str, _Handle]
OptionalPodHandle = Annotated[str | None, _Handle]


def read_handles(given: Iterable[str]) -> list[str]:
    """Return the handles without duplicates; ``-`` is replaced with the words of stdin.

    Raises:
        CommandError: A handle is empty.
    """
    handles: list[str] = []
    for word in given:
        if word == "-":
            handles += sys.stdin.read().split()
        else:
            handles.append(_reject_empty(word))
    return list(dict.fromkeys(handles))


def is_single(given: Sequence[str]) -> bool:
    """Return whether exactly one handle was typed, so that the output is one object."""
    return len(given) == 1 and given[0] != "-"


def are_whole_ids(handles: Iterable[str]) -> bool:
    """Return whether all handles have the form of an id: 32 hexadecimal digits or a UUID, in lower case."""
    return all(map(_WHOLE_ID.fullmatch, handles))


R = TypeVar("R", bound=Row)


class _Index(Generic[R]):
    """Index of listed rows by id and name."""

    def __init__(self, rows: Iterable[R]) -> None:
        self._rows = {row.id: row for row in rows}
        self.ids_by_name: defaultdict[str, list[str]] = defaultdict(list)
        for row in self._rows.values():
            if row.name:
                self.ids_by_name[row.name].append(row.id)

    def find(self, handle: str, *, takes_run_prefix: bool = False) -> list[R]:
        """Return the row with this id; else those with this name or id prefix, else those of this run.

        Args:
            handle: The typed text.
            takes_run_prefix: Whether the beginning of a run's name means the run.
        """
        if handle in self._rows:
            return [self._rows[handle]]
        ids = list(self.ids_by_name.get(handle, ()))
        if len(handle) >= MIN_PREFIX:
            ids += [row_id for row_id in self._rows if row_id.startswith(handle)]
        if not ids and (takes_run_prefix or _RUN.fullmatch(handle)):
            names = [name for name in self.ids_by_name if name.startswith(f"{handle}-")]
            if takes_run_prefix:
                found = map(_POD_OF_RUN.fullmatch, self.ids_by_name)
                names = names or [pod[0] for pod in found if pod and pod[1].startswith(handle)]
            ids = [row_id for name in names for row_id in self.ids_by_name[name]]
            # A run that has started again on another pod means that one.
            ids = [row_id for row_id in ids if not getattr(self._rows[row_id], "has_ended", False)] or ids
        return [self._rows[row_id] for row_id in dict.fromkeys(ids)]


def find_row(handle: str, rows: Iterable[R], kind: str, command: str) -> R:
    """Return the row with this id, id prefix or name.

    Args:
        handle: The typed text.
        rows: The rows to search.
        kind: The word for a row, such as ``disk``.
        command: The command that lists the rows.

    Raises:
        CommandError: No row matches, or several do.
    """
    matches = _Index(rows).find(handle)
    if len(matches) != 1:
        ids = ", ".join(row.id for row in matches)
        several = f"matches several {kind}s: {ids}. Give an id"
        reason = several if matches else f"matches no {kind}: see `{command}`"
        raise CommandError(f"{handle!r} {reason}", ExitCode.USAGE if matches else ExitCode.FAILED)
    return matches[0]


def resolve_handle(client: primepods.Client, handle: str, *, team: str | None = None) -> str:
    """Return the id of a handle's pod, for commands that do not delete it; see :func:`resolve_handles`.

    The beginning of a run's name means its pod.
    """
    return resolve_handles(client, [_reject_empty(handle)], team=team, takes_run_prefix=True)[0]


def resolve_handles(
    client: primepods.Client,
    handles: Sequence[str],
    *,
    team: str | None = None,
    reports_unlisted: bool = False,
    is_strict: bool | None = None,
    takes_run_prefix: bool = False,
) -> list[str]:
    """Return the ids of the handles' pods without duplicates; list the pods if a handle is not a whole id.

    Also add the listed pods that are ready to the file of ssh hosts, if it exists.

    Args:
        client: The client that lists the pods.
        handles: The typed texts.
        team: The team of ``--team``; names and id prefixes match only its pods.
        reports_unlisted: Whether to print which ids are not in the list, if it was read: the command waits
            for these pods.
        is_strict: See :meth:`PodIndex.resolve`; by default, true only for a single handle, since an error
            about one handle would stop all.
        takes_run_prefix: Whether the beginning of a run's name means the run's pod.

    Raises:
        CommandError: A handle is ambiguous, or matches no pod and is not accepted as an id.
        PrimePodsError: The list is incomplete, and a missing pod might match.
    """
    from primepods.remote import HostEntry, note_hosts

    if are_whole_ids(handles):
        return list(dict.fromkeys(handles))
    index = PodIndex.read(client, team=team)
    note_hosts(HostEntry.of(pod) for pod in index.pods.values() if pod.is_ready)
    strict = len(handles) == 1 if is_strict is None else is_strict
    ids = index.resolve(handles, is_strict=strict, takes_run_prefix=takes_run_prefix)
    if reports_unlisted:
        for pod_id in ids:
            if pod_id not in index:
                print_info(f"{pod_id} is not in the list of your pods; waiting for it to appear.")
    return ids


async def resolve_handle_async(client: primepods.AsyncClient, handle: str, *, team: str | None = None) -> str:
    """Return the id of a handle's pod; see :func:`resolve_handles`."""
    if are_whole_ids([handle]):
        return handle
    pods, error = await client.pods._listed().collect()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as PodIndex.read
    return PodIndex(pods, team=team, error=error).resolve([handle], is_strict=True)[0]


class PodIndex:
    """Index of the listed pods by their handles.

    Args:
        rows: The listed pods, and rows of which only id and name can be read.
        team: Names and id prefixes match only pods of this team; ``None`` for all pods.
        error: The error that left the list incomplete, if any. With it, only ids are resolved.
    """

    def __init__(
        self, rows: Iterable[Row], *, team: str | None = None, error: Exception | None = None
    ) -> None:
        self._rows = {row.id: row for row in rows}
        self.pods = {row.id: row for row in self._rows.values() if isinstance(row, primepods.Pod)}
        others = {pod.id for pod in self.pods.values() if team is not None and pod.team_id != team}
        self._team_index = _Index(row for row in self._rows.values() if row.id not in others)
        self._error = error
        self._team = team

    @classmethod
    def read(cls, client: primepods.Client, *, team: str | None = None) -> PodIndex:
        """Return the index of all pods; if the list is incomplete, the listed pods are found by id only."""
        rows, error = client.pods._listed().collect()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public list lacks rows that cannot be read
        return cls(rows, team=team, error=error)

    def readable(self, ids: Iterable[str]) -> list[primepods.Pod]:
        """Return the pods with these ids, without those that are not listed or cannot be read."""
        return [self.pods[pod_id] for pod_id in ids if pod_id in self.pods]

    def __contains__(self, pod_id: object) -> bool:
        return pod_id in self._rows

    def resolve(
        self, handles: Iterable[str], *, is_strict: bool = False, takes_run_prefix: bool = False
    ) -> list[str]:
        """Return the ids of the handles' pods without duplicates.

        A handle that matches no listed pod is taken as an id if it can be one, since the list may not show a
        new pod yet.

        Args:
            handles: The typed texts.
            is_strict: Whether to reject a handle that matches no pod and does not look like a new id.
            takes_run_prefix: Whether the beginning of a run's name means the run's pod.
        """
        options = {"is_strict": is_strict, "takes_run_prefix": takes_run_prefix}
        return list(dict.fromkeys(self._resolve(handle, **options) for handle in handles))

    def _resolve(self, handle: str, *, is_strict: bool, takes_run_prefix: bool) -> str:
        # An id means its pod, even if another pod has the id as its name.
        if handle in self._rows or _WHOLE_ID.fullmatch(handle):
            return handle
        if self._error is not None:
            raise self._error
        candidates = self._team_index.find(handle, takes_run_prefix=takes_run_prefix)
        if len(candidates) > 1:
            # The line ends after some pods if there are very many.
            words = ", ".join(printable(f"{pod.id} ({pod.name or 'no name'})") for pod in candidates)
            raise CommandError(
                f"{handle!r} matches {len(candidates):,} pods. Nothing was done: give an id. {words}",
                ExitCode.USAGE,
            )
        if candidates and self._team is not None and candidates[0].id not in self.pods:
            raise CommandError(
                f"{handle!r} matches pod {candidates[0].id}, whose team cannot be read: give the id",
                ExitCode.USAGE,
            )
        if not candidates and (is_strict or not _can_be_id(handle)):
            self._check_not_mistyped(handle)
        return candidates[0].id if candidates else handle

    def _check_not_mistyped(self, handle: str) -> None:
        """Check that a handle that matches no listed pod may be the id of a new pod.

        Raises:
            CommandError: The handle cannot be an id, has no digit, is similar to a name, or is a prefix of a
                listed id but shorter than ``MIN_PREFIX``.
        """
        similar = get_close_matches(handle, self._team_index.ids_by_name, n=3)
        is_short = len(handle) < MIN_PREFIX and any(pod_id.startswith(handle) for pod_id in self._rows)
        # A handle without a digit is rarely an id.
        is_pattern = bool(set(handle) & set("*?"))
        may_be_id = _can_be_id(handle) and any(map(str.isdecimal, handle)) and not is_pattern
        if may_be_id and not similar and not is_short:
            return
        hint = SEE_LISTS
        if is_pattern:
            hint = "`primepods list`, `watch` and `delete` take a pattern as --name"
        elif similar:
            hint = f"did you mean {' or '.join(map(repr, similar))}? Otherwise, {hint}"
        elif is_short:
            hint = f"a prefix of an id needs {MIN_PREFIX} characters or more; {hint}"
        of_team = "" if self._team is None else f" of team {self._team!r}"
        raise CommandError(f"no pod{of_team} has the name or id {handle!r}: {hint}")


def _reject_empty(handle: str) -> str:
    if not handle:
        raise CommandError("a pod argument is empty: check that the shell variable is set", ExitCode.USAGE)
    return handle


def _can_be_id(handle: str) -> bool:
    """Return whether a handle may be an id, by its characters. The client has the complete check."""
    return handle.isprintable() and not set(handle) & set(" /\\") and bool(handle.strip("."))
