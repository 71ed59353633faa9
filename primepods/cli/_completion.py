"""Shell completion: quick, or nothing; never an error."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, TypeVar

import typer

import primepods

_SAFE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A word that needs no quoting in a shell and is no option."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 _.,/+@-]")
"""What no help text may hold: zsh evaluates what is offered, and anybody in a team may name a pod."""
_MAX_ROWS: Final = 1_000
TIMEOUT: Final = 2.0
"""Seconds after which a page that has not come is given up."""

T = TypeVar("T")


def complete_pods(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return names of pods that begin so, each with its id, and ids, each with its name.

    An id is offered where something of it was typed, or where its pod has no name of its own.
    """
    chosen = {*(ctx.params.get("pods") or ()), ctx.params.get("pod")}
    pods = _read(ctx, lambda client: client.pods.list())
    names = [pod.name or "" for pod in pods]
    own = {name for name in names if names.count(name) == 1 and _SAFE.fullmatch(name)}
    found: list[tuple[str, str]] = []
    for pod, name in zip(pods, names, strict=True):
        if chosen & {pod.id, name}:
            continue
        if name in own and name.startswith(incomplete):
            found.append((name, pod.id))
        elif pod.id.startswith(incomplete) and (incomplete or name not in own):
            found.append((pod.id, name))
    return [(word, _UNSAFE.sub("_", text)) for word, text in found if _SAFE.fullmatch(word)]


def _read(ctx: typer.Context, ask: Callable[[primepods.Client], Iterable[T]]) -> list[T]:
    """Return what the API lists, or nothing if it cannot be asked; log nothing."""
    log = logging.getLogger("primepods")
    log.disabled, was_disabled = True, log.disabled
    try:
        with primepods.Client(
            base_url=ctx.params.get("base_url"),
            context=ctx.params.get("context"),
            team_id=ctx.params.get("team"),
            timeout=TIMEOUT,
            deadline=TIMEOUT,
            retry=primepods.RetryPolicy(attempts=1),
        ) as client:
            return list(islice(ask(client), _MAX_ROWS))
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that is being typed
        return []
    finally:
        log.disabled = was_disabled
