"""Shell completion: fast, with a short timeout, and without errors."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

import typer

import primepods

_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Words that are safe to insert into a shell's line, and are not options."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 _.,/+@-]")
"""Characters to replace in help texts: zsh evaluates them, and anyone in a team can name a pod."""
_MAX_ROWS: Final = 1_000
"""Max rows to read, so that completion stays fast."""
TIMEOUT: Final = 3.0
"""Max seconds of a request; no further page is requested after this time."""

T = TypeVar("T")


def complete_pods(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the name or id of each matching pod, with the other one as help text; leave out typed pods."""
    already_typed = {*(ctx.params.get("pods") or ()), ctx.params.get("pod")}
    handles = _pod_handles(_read(ctx, lambda client: client.pods.list()), incomplete)
    return [
        (handle, _UNSAFE.sub("_", other_handle))
        for handle, other_handle in handles
        if _NEEDS_NO_QUOTES.fullmatch(handle) and not already_typed & {handle, other_handle}
    ]


def _pod_handles(pods: Sequence[primepods.Pod], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the name and id of each pod that matches; the id first unless the name is usable and matches."""
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
    """Return the known states of pods, in lower case if the typed text is."""
    states = [state.lower() if incomplete.islower() else str(state) for state in primepods.PodState]
    return _filter_words(states, incomplete)


def complete_contexts(incomplete: str) -> list[str]:
    """Return the names of the saved contexts."""
    from primepods.config import saved_contexts

    return _filter_words(saved_contexts(), incomplete)


def complete_runs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of this machine's runs, with their states; for `stop`, of those that still run."""
    from primepods.runs import list_runs

    try:
        states = {run.name: run.state for run in list_runs()[0] if _is_completion(run.name, incomplete)}
    except Exception:  # noqa: BLE001 - as in `_read`
        return []
    return [(name, state) for name, state in states.items() if (ctx.info_name, state) != ("stop", "ended")]


def complete_pod_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the GPUs of the account's pods."""
    return _filter_words((pod.gpu_name for pod in _read(ctx, lambda client: client.pods.list())), incomplete)


def complete_offer_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the GPUs of the market."""
    return _filter_words((row.gpu_type for row in _read(ctx, _list_prices)), incomplete)


def complete_providers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the providers of offers."""
    return _filter_words((offer.provider for offer in _read(ctx, _list_offers)), incomplete)


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the images of offers."""
    return _filter_words((image for offer in _read(ctx, _list_offers) for image in offer.images), incomplete)


def complete_ssh_keys(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of the account's SSH keys; the id of a key whose name would need quoting."""
    found: list[tuple[str, str]] = []
    for key in _read(ctx, lambda client: client.ssh_keys.list()):
        name = key.name or ""
        word, text = (name, key.id) if _NEEDS_NO_QUOTES.fullmatch(name) else (key.id, name)
        if _is_completion(word, incomplete):
            found.append((word, _UNSAFE.sub("_", text)))
    return found


def _list_prices(client: primepods.Client) -> Iterable[primepods.GpuPrices]:
    return client.availability.summary()


def _list_offers(client: primepods.Client) -> Iterable[primepods.Offer]:
    return client.availability.gpus()


def _filter_words(words: Iterable[str | None], incomplete: str) -> list[str]:
    """Return the words that complete a text, without duplicates."""
    return sorted({word for word in words if word and _is_completion(word, incomplete)})


def _is_completion(word: str, incomplete: str) -> bool:
    """Return whether a word begins with the typed text and needs no quoting."""
    return word.startswith(incomplete) and _NEEDS_NO_QUOTES.fullmatch(word) is not None


def _read(ctx: typer.Context, list_rows: Callable[[primepods.Client], Iterable[T]]) -> list[T]:
    """Return the rows that the API lists within the timeout; log nothing and raise nothing."""
    log = logging.getLogger("primepods")
    was_disabled = log.disabled
    log.disabled = True
    # Options may stand before the command's name or after it.
    options = {**ctx.find_root().params, **{name: value for name, value in ctx.params.items() if value}}
    rows: list[T] = []
    deadline = time.monotonic() + TIMEOUT
    try:
        with primepods.Client(
            base_url=options.get("base_url"),
            context=options.get("context"),
            team_id=options.get("team"),
            timeout=TIMEOUT,
            deadline=TIMEOUT,
            retry=primepods.RetryPolicy(attempts=1),
        ) as client:
            for row in islice(list_rows(client), _MAX_ROWS):
                rows.append(row)
                if time.monotonic() > deadline:
                    break
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that is being typed
        return rows
    finally:
        log.disabled = was_disabled
    return rows
