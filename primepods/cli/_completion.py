"""Shell completion: quick, or nothing; never an error."""

from __future__ import annotations

import logging
import re
import time
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
TIMEOUT: Final = 3.0
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


def complete_statuses(incomplete: str) -> list[str]:
    """Return the states that pods have, in the case in which they are typed."""
    states = [state.lower() if incomplete.islower() else str(state) for state in primepods.PodState]
    return _beginning(states, incomplete)


def complete_contexts(incomplete: str) -> list[str]:
    """Return the names of the saved contexts."""
    from primepods.config import saved_contexts

    return _beginning(saved_contexts(), incomplete)


def complete_pod_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the GPUs of the account's pods."""
    return _beginning((pod.gpu_name for pod in _read(ctx, lambda client: client.pods.list())), incomplete)


def complete_offer_gpus(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the GPUs of the market."""
    return _beginning((row.gpu_type for row in _read(ctx, _ask_prices)), incomplete)


def complete_providers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the providers of offers."""
    return _beginning((offer.provider for offer in _read(ctx, _ask_offers)), incomplete)


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the images of offers."""
    return _beginning((image for offer in _read(ctx, _ask_offers) for image in offer.images), incomplete)


def complete_ssh_keys(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the account's SSH keys: their names, or where those are no words of a shell their ids."""
    keys = _read(ctx, lambda client: client.ssh_keys.list())
    words = [(key.name, key.id) if _SAFE.fullmatch(key.name or "") else (key.id, key.name) for key in keys]
    return [
        (word, _UNSAFE.sub("_", text or "")) for word, text in words if word in _beginning([word], incomplete)
    ]


def _ask_prices(client: primepods.Client) -> Iterable[primepods.GpuPrices]:
    return client.availability.summary()


def _ask_offers(client: primepods.Client) -> Iterable[primepods.Offer]:
    return client.availability.gpus()


def _beginning(words: Iterable[str | None], incomplete: str) -> list[str]:
    """Return words that begin so and need no quoting, each once."""
    return sorted({word for word in words if word and word.startswith(incomplete) and _SAFE.fullmatch(word)})


def _read(ctx: typer.Context, ask: Callable[[primepods.Client], Iterable[T]]) -> list[T]:
    """Return what the API lists, or what has come in time; log nothing, raise nothing."""
    log = logging.getLogger("primepods")
    log.disabled, was_disabled = True, log.disabled
    given = {**ctx.find_root().params, **{name: value for name, value in ctx.params.items() if value}}
    rows: list[T] = []
    end = time.monotonic() + TIMEOUT
    try:
        with primepods.Client(
            base_url=given.get("base_url"),
            context=given.get("context"),
            team_id=given.get("team"),
            timeout=TIMEOUT,
            deadline=TIMEOUT,
            retry=primepods.RetryPolicy(attempts=1),
        ) as client:
            for row in islice(ask(client), _MAX_ROWS):
                rows.append(row)
                if time.monotonic() > end:
                    break
    except Exception:  # noqa: BLE001 - an error here would be printed into the line that is being typed
        return rows
    finally:
        log.disabled = was_disabled
    return rows
