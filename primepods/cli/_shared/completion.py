"""Shell completion, with a short timeout and without error messages."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

import typer

import primepods

_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Words that are safe to insert into a command line, and are not options."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 _.,/+@-]")
"""Characters to replace in help texts: zsh evaluates some, and team members choose pod names."""
_MAX_ROWS: Final = 1_000
"""Max rows to read, so that completion stays fast."""
TIMEOUT: Final = 3.0
"""Max seconds of a request; no further page is requested after this time."""

T = TypeVar("T")


def complete_pods(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return a handle and a help text for each matching pod that has not been typed yet."""
    already_typed = {*(ctx.params.get("pods") or ()), ctx.params.get("pod")}
    handles = _pod_handles(_read(ctx, lambda client: client.pods.list()), incomplete)
    return [
        (handle, _UNSAFE.sub("_", other_handle))
        for handle, other_handle in handles
        if _NEEDS_NO_QUOTES.fullmatch(handle) and not already_typed & {handle, other_handle}
    ]


def _pod_handles(pods: Sequence[primepods.Pod], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield name and id of each pod whose name completes the text, or id and name if only the id does.

    Names that need quotes or that several pods have are not completed.
    """
    names = [pod.name or "" for pod in pods]
    usable_names = {
        name for name, number in Counter(names).items() if number == 1 and _NEEDS_NO_QUOTES.fullmatch(name)
    }
    for pod, name in zip(pods, names, strict=True):
        if name in usable_names and name.startswith(incomplete):
            yield name, pod.id
        elif pod.id.startswith(incomplete):
            yield pod.id, name


def complete_statuses(incomplete: str) -> list[str]:
    """Return the known pod states that complete the text, in lower case if the text is."""
    states = [state.lower() if incomplete.islower() else str(state) for state in primepods.PodState]
    return _filter_words(states, incomplete)


def complete_contexts(incomplete: str) -> list[str]:
    from primepods.config import saved_contexts

    return _filter_words(saved_contexts(), incomplete)


def complete_runs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names and states of the matching runs; for `stop`, only of those that have not ended."""
    from primepods.runs import list_runs

    states: dict[str, str] = {}
    with suppress(Exception):  # as in `_read`
        states = {run.name: run.state for run in list_runs()[0] if _is_completion(run.name, incomplete)}
    return [(name, state) for name, state in states.items() if (ctx.info_name, state) != ("stop", "ended")]


def complete_pod_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    return _filter_words((pod.gpu_name for pod in _read(ctx, lambda client: client.pods.list())), incomplete)


def complete_offer_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    prices = _read(ctx, lambda client: client.availability.summary())
    return _filter_words((row.gpu_type for row in prices), incomplete)


def complete_providers(ctx: typer.Context, incomplete: str) -> list[str]:
    return _filter_words((offer.provider for offer in _read_offers(ctx)), incomplete)


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    return _filter_words((image for offer in _read_offers(ctx) for image in offer.images), incomplete)


def complete_ssh_keys(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the name of each matching SSH key, or its id if the name needs quotes, and a help text."""
    found: list[tuple[str, str]] = []
    for key in _read(ctx, lambda client: client.ssh_keys.list()):
        name = key.name or ""
        word, text = (name, key.id) if _NEEDS_NO_QUOTES.fullmatch(name) else (key.id, name)
        if _is_completion(word, incomplete):
            found.append((word, _UNSAFE.sub("_", text)))
    return found


def _read_offers(ctx: typer.Context) -> list[primepods.Offer]:
    return _read(ctx, lambda client: client.availability.gpus())


def _filter_words(words: Iterable[str | None], incomplete: str) -> list[str]:
    return sorted({word for word in words if word and _is_completion(word, incomplete)})


def _is_completion(word: str, incomplete: str) -> bool:
    """Return whether a word begins with the typed text and needs no quotes."""
    return word.startswith(incomplete) and _NEEDS_NO_QUOTES.fullmatch(word) is not None


def _read(ctx: typer.Context, list_rows: Callable[[primepods.Client], Iterable[T]]) -> list[T]:
    """Return up to ``_MAX_ROWS`` rows that the API lists; log and raise nothing."""
    log = logging.getLogger("primepods")
    was_disabled = log.disabled
    log.disabled = True
    # Options may precede or follow the command's name.
    options = {**ctx.find_root().params, **{name: value for name, value in ctx.params.items() if value}}
    rows: list[T] = []
    deadline = time.monotonic() + TIMEOUT
    try:
        # An error would be printed into the line that is being typed.
        with (
            suppress(Exception),
            primepods.Client(
                base_url=options.get("base_url"),
                context=options.get("context"),
                team_id=options.get("team"),
                timeout=TIMEOUT,
                deadline=TIMEOUT,
                retry=primepods.RetryPolicy(attempts=1),
            ) as client,
        ):
            for row in islice(list_rows(client), _MAX_ROWS):
                rows.append(row)
                if time.monotonic() > deadline:
                    break
    finally:
        log.disabled = was_disabled
    return rows
