"""What the shell offers when Tab is pressed: quick, or nothing; never an error."""

from __future__ import annotations

import logging
import re

import typer

import primepods

from ._text import printable

_WORD = re.compile(r"[A-Za-z0-9_-]+")
"""An id that needs no quoting in a shell."""
SECONDS = 2.0
"""Who pressed Tab waits no longer."""


def complete_pod_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return ids of pods that begin so, each with its name, as far as one request shows."""
    logging.getLogger("primepods").addHandler(logging.NullHandler())
    logging.getLogger("primepods").propagate = False
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
            pods = client.pods.page(limit=1_000)
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that is being typed
        return []
    return [
        (pod.id, printable(pod.name or ""))
        for pod in pods
        if pod.id.startswith(incomplete) and pod.id not in chosen and _WORD.fullmatch(pod.id)
    ]
