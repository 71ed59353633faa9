"""Filters of pods: ``--status``, ``--gpu`` and their like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Annotated

import attrs
import typer

import primepods

from ._completion import complete_pod_gpus, complete_statuses
from ._durations import age, parse_duration

_PANEL = "Filters"

Status = Annotated[
    list[str] | None,
    typer.Option(
        help="In this state: ACTIVE, PENDING, PROVISIONING, ERROR; may be repeated.",
        metavar="STATE",
        autocompletion=complete_statuses,
        rich_help_panel=_PANEL,
    ),
]
Gpu = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu-type",
        "--gpu",
        help="With this GPU: H100, H100_80GB, 'H*'; may be repeated.",
        metavar="GPU",
        autocompletion=complete_pod_gpus,
        rich_help_panel=_PANEL,
    ),
]
Name = Annotated[
    list[str] | None,
    typer.Option(
        help="Of this name, or like 'train-*'; may be repeated.",
        metavar="NAME",
        rich_help_panel=_PANEL,
    ),
]
Ready = Annotated[
    bool | None,
    typer.Option("--ready/--not-ready", help="That can be used now, or cannot yet.", rich_help_panel=_PANEL),
]
OlderThan = Annotated[
    float | None,
    typer.Option(
        help="Created so long ago or longer, such as 2h or 1d.",
        metavar="TIME",
        parser=parse_duration,
        rich_help_panel=_PANEL,
    ),
]


@attrs.frozen(kw_only=True)
class PodFilter:
    """Which pods are wanted; what is not given leaves all.

    Attributes:
        status: States, any of which will do.
        gpu: Names or patterns of GPUs.
        name: Names or patterns of names.
        team: The team that a pod belongs to.
        ready: Whether it can be used.
        older_than: Seconds since it was ordered, at least.
        exact_names: Of ``name`` what is no pattern, as pods are called just so.
    """

    status: list[str] | None = None
    gpu: list[str] | None = None
    name: list[str] | None = None
    team: str | None = None
    ready: bool | None = None
    older_than: float | None = None
    exact_names: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        """Refuse empty texts: a variable of a script that is not set must not choose pods."""
        for option in ("status", "gpu", "name"):
            if not all(getattr(self, option) or ["-"]):
                raise ValueError(f"--{option} is empty: leave it out, or say what it must be")

    @property
    def is_empty(self) -> bool:
        """Whether it leaves all pods."""
        return all(value in (None, [], frozenset()) for value in attrs.astuple(self, recurse=False))

    def choose(self, pods: Iterable[primepods.Pod]) -> list[primepods.Pod]:
        """Return the pods that are wanted: a name that a pod has is that name, and no pattern."""
        listed = list(pods)
        names = frozenset(pod.name or "" for pod in listed)
        chosen = attrs.evolve(self, exact_names=names.intersection(self.name or ()))
        return list(filter(chosen.matches, listed))

    def none_found(self, pods: Iterable[primepods.Pod]) -> str:
        """Return what to say if none of these is wanted: a mistyped state or GPU is the likely reason."""
        if self.is_empty:
            return "No pods."
        strange = [word for word in self.status or () if not primepods.PodState(word.upper()).is_known]
        if strange:
            known = ", ".join(primepods.PodState)
            return f"No pods like that; {', '.join(strange)} is not among the known states: {known}."
        gpus = {pod.gpu_name for pod in pods}
        strange = [word for word in self.gpu or () if not any(pod.has_gpu(word) for pod in pods)]
        if strange and gpus:
            return f"No pods like that; none has the GPU {', '.join(strange)}, but {', '.join(sorted(gpus))}."
        return "No pods like that."

    def matches(self, pod: primepods.Pod) -> bool:
        """Tell whether a pod is wanted."""
        seconds = age(pod.created_at)
        return (
            _any(self.status, lambda status: status.upper() == pod.status)
            and _any(self.gpu, pod.has_gpu)
            and _any(
                self.name, lambda name: name_matches(name, pod.name, is_pattern=name not in self.exact_names)
            )
            and (self.team is None or pod.team_id == self.team)
            and (self.ready is None or pod.is_ready == self.ready)
            # A pod whose age nobody knows is not old.
            and (self.older_than is None or (seconds is not None and seconds >= self.older_than))
        )


def name_matches(wanted: str, name: str | None, *, is_pattern: bool = True) -> bool:
    """Return whether a name is the one wanted, or fits its ``*`` and ``?``; brackets are only themselves."""
    return name == wanted or (is_pattern and fnmatchcase(name or "", wanted.replace("[", "[[]")))


def _any(wanted: list[str] | None, holds: Callable[[str], bool]) -> bool:
    return not wanted or any(map(holds, wanted))
