"""Filter options for pods: ``--status``, ``--gpu`` and others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Annotated

import attrs

import primepods

from .._shared.completion import complete_pod_gpus, complete_statuses
from .._shared.durations import age, duration_option
from .._shared.errors import CommandError, ExitCode
from .._shared.options import filter_option, flag

Name = Annotated[
    list[str] | None,
    filter_option(
        "Only with a name that equals or matches this, such as 'train-*'; may be repeated.", "NAME"
    ),
]


@attrs.frozen(kw_only=True)
class PodFilter:
    """Filter options for pods; a pod must match all options that were given.

    Attributes:
        status: States; a pod matches with any of them.
        gpu: Names or patterns of GPUs.
        name: Names, or patterns of names.
        ready: ``True`` for ready pods, ``False`` for the others.
        older_than: Minimum age in seconds.
    """

    status: Annotated[
        list[str] | None,
        filter_option(
            "Only pods in this state, such as ACTIVE, PENDING or ERROR; may be repeated.",
            "STATE",
            autocompletion=complete_statuses,
        ),
    ] = None
    gpu: Annotated[
        list[str] | None,
        filter_option(
            "Only pods with this GPU, such as H100, H100_80GB or 'H*'; may be repeated.",
            "GPU",
            "--gpu-type",
            "--gpu",
            autocompletion=complete_pod_gpus,
        ),
    ] = None
    name: Name = None
    ready: Annotated[
        bool | None, flag("Only ready pods, or only the others.", "--ready/--not-ready", panel="Filters")
    ] = None
    older_than: Annotated[
        float | None,
        duration_option("Only pods at least this old, such as 2h or 1d.", panel="Filters"),
    ] = None

    def __attrs_post_init__(self) -> None:
        """Reject empty texts: an unset shell variable must not select pods."""
        for name in ("status", "gpu", "name"):
            if "" in (getattr(self, name) or ()):
                raise ValueError(f"--{name} is empty: leave it out, or give a value")

    @property
    def is_empty(self) -> bool:
        return all(value in (None, []) for value in attrs.astuple(self, recurse=False))

    def choose(self, pods: Iterable[primepods.Pod], team: str | None) -> list[primepods.Pod]:
        """Return the pods that match, of one team or (``None``) of all.

        If a pod is named exactly ``train-*``, ``--name 'train-*'`` selects only the pods of this name.
        """
        listed = list(pods)
        names = {pod.name or "" for pod in listed}
        return [pod for pod in listed if self.matches(pod, team=team, exact_names=names)]

    def no_match_message(
        self, client: primepods.Client, pods: Sequence[primepods.Pod], team: str | None
    ) -> str:
        """Return the message for an empty result; it names the GPUs that no pod has.

        Raises:
            CommandError: No pod has a given state, and neither has the API; or no pod is of a given team,
                and the user is no member of it.
            ValueError: No pod has a given GPU, and the API lists no such GPU.
        """
        if unknown := [word for word in self.status or () if not primepods.PodState(word.upper()).is_known]:
            states = f"unknown states: {', '.join(unknown)}. Known states: {', '.join(primepods.PodState)}"
            if "READY" in map(str.upper, unknown):
                states += ". For pods that are ready, use --ready"
            raise CommandError(states, ExitCode.USAGE)
        if team is not None and all(pod.team_id != team for pod in pods):
            teams = None
            with suppress(primepods.PrimePodsError):
                teams = [mine.team_id for mine in client.account.teams()]
            if teams is not None and team not in teams:
                problem = f"there is no team {team!r} of yours: see `primepods teams`"
                raise CommandError(problem, ExitCode.USAGE)
        missing = [word for word in self.gpu or () if not any(pod.has_gpu(word) for pod in pods)]
        with suppress(primepods.PrimePodsError):
            for gpu in missing:
                client.availability.find(gpu_type=gpu, gpu_count=None, unavailable=True, limit=1)
        text = "No pods match." if pods else "No pods."
        if missing and pods:
            gpus = ", ".join(sorted({pod.gpu_name for pod in pods}))
            text += f" No pod has this GPU: {', '.join(missing)}. GPUs of the pods: {gpus}."
        return text

    def matches(self, pod: primepods.Pod, *, team: str | None, exact_names: Collection[str] = ()) -> bool:
        """Return whether a pod matches; names in ``exact_names`` are not patterns."""
        seconds = age(pod.created_at)
        return (
            _any_if_given(self.status, lambda status: status.upper() == pod.status)
            and _any_if_given(self.gpu, pod.has_gpu)
            and _any_if_given(
                self.name, lambda name: name_matches(name, pod.name, is_pattern=name not in exact_names)
            )
            and (team is None or pod.team_id == team)
            and (self.ready is None or pod.is_ready == self.ready)
            # A pod of unknown age does not count as old.
            and (self.older_than is None or (seconds is not None and seconds >= self.older_than))
        )


def name_matches(wanted: str, name: str | None, *, is_pattern: bool = True) -> bool:
    """Return whether ``name`` is ``wanted`` or matches it as a pattern; only ``*`` and ``?`` are special."""
    return name == wanted or (is_pattern and fnmatchcase(name or "", wanted.replace("[", "[[]")))


def _any_if_given(wanted: list[str] | None, predicate: Callable[[str], bool]) -> bool:
    """Return whether the predicate holds for one of the wanted values; true if none is given."""
    return not wanted or any(map(predicate, wanted))
