"""Shell completion, with a short timeout and without error messages."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol, TypeVar

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


class Row(Protocol):
    """A row of a list, such as a pod; only its id and name must be readable."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str | None: ...


def complete_pods(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return a handle and a help text for each matching pod that has not been typed yet."""
    typed = {*(ctx.params.get("pods") or ()), ctx.params.get("pod")}
    pods = _read(ctx, lambda client: client.pods.list())
    return _handles((pod for pod in pods if not typed & {pod.id, pod.name}), incomplete)


def complete_ssh_keys(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    return _handles(_read(ctx, lambda client: client.ssh_keys.list()), incomplete)


def _handles(rows: Iterable[Row], incomplete: str) -> list[tuple[str, str]]:
    """Return the name of each matching row, or else its id, and as help text the other one.

    Names that several rows have are not completed.
    """
    listed = list(rows)
    numbers = Counter(row.name for row in listed)
    found: list[tuple[str, str]] = []
    for row in listed:
        name = row.name or ""
        if numbers[row.name] == 1 and _is_completion(name, incomplete):
            found.append((name, _UNSAFE.sub("_", row.id)))
        elif _is_completion(row.id, incomplete):
            found.append((row.id, _UNSAFE.sub("_", name)))
    return found


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
