"""What the shell offers when Tab is pressed: quick, or nothing; never an error."""

from __future__ import annotations

import logging
import re
from itertools import islice

import typer

import primepods

_WORD = re.compile(r"[A-Za-z0-9_-]+")
"""An id that needs no quoting in a shell."""
_UNSAFE = re.compile(r"[^A-Za-z0-9 _.,/+@-]")
"""What is no part of a name there: zsh evaluates what is offered, and anybody in a team may name a pod."""
_MOST = 1_000
SECONDS = 2.0
"""Who pressed Tab waits no longer for a page."""


def complete_pod_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return ids of pods that begin so, each with its name."""
    log = logging.getLogger("primepods")
    log.disabled, was_disabled = True, log.disabled
    chosen: list[str] = ctx.params.get("pod_ids") or []
    try:
        with primepods.Client(
            base_url=ctx.params.get("base_url"),
            context=ctx.params.get("context"),
            team_id=ctx.params.get("team"),
            timeout=SECONDS,
            deadline=SECONDS,
            retry=primepods.RetryPolicy(attempts=1),
        ) as client:
            pods = list(islice(client.pods.list(), _MOST))
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that is being typed
        return []
    finally:
        log.disabled = was_disabled
    return [
        (pod.id, _UNSAFE.sub("_", pod.name or ""))
        for pod in pods
        if pod.id.startswith(incomplete) and pod.id not in chosen and _WORD.fullmatch(pod.id)
    ]
