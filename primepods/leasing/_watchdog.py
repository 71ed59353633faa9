"""A lease's part in the watchdog of its pod: notice what it did, and end it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from .. import errors
from ..errors import PrimePodsError
from ..remote import AsyncRemote, end_watchdog
from ._rental import Rental
from .pods_api import LIST_TIMEOUT, LeaseOptions, read_ended_pods

_log = logging.getLogger("primepods")

_FOREVER: Final = 1e9
_INTERVAL_FACTOR: Final = 12
"""Interval of the checks for a lost pod, as a multiple of the poll interval."""


async def watch_watchdog(rental: Rental, options: LeaseOptions) -> None:
    """Wait until the pod of a lease with a watchdog is gone, unless it is kept.

    Raises:
        PodFailedError: The pod is gone; the message says when, and why its watchdog may have deleted it.
    """
    interval = _INTERVAL_FACTOR * options.interval
    while True:
        try:
            await rental.client.pods.wait_gone(str(rental.pod_id), timeout=_FOREVER, interval=interval)
            break
        except PrimePodsError as exc:
            _log.info("%s cannot be watched: %s", rental.label, exc)
            await rental.client.settings.clock.sleep(interval)
    if not rental.is_kept:
        raise await _loss_error(rental, options)


async def find_loss(rental: Rental, options: LeaseOptions) -> PrimePodsError | None:
    """Return the error of :func:`watch_watchdog` if the pod is gone, or on its way out."""
    clock = rental.client.settings.clock
    with suppress(TimeoutError, PrimePodsError):
        async with clock.timeout_at(clock.time() + LIST_TIMEOUT):
            try:
                pod = await rental.client.pods.get(str(rental.pod_id))
                if pod.status is None or not pod.status.is_ending:
                    return None
            except errors.NotFoundError:
                pass
            return await _loss_error(rental, options)
    return None


async def _loss_error(rental: Rental, options: LeaseOptions) -> errors.PodFailedError:
    pod_id, when = str(rental.pod_id), "a moment ago"
    reasons = options.watchdog.reasons if options.watchdog is not None else ""
    with suppress(PrimePodsError):
        for record in await read_ended_pods(rental.client.pods):
            if record.id == pod_id and record.terminated_at is not None:
                when = f"at {record.terminated_at:%Y-%m-%d %H:%M:%S} UTC"
    reason = f"it was deleted {when}, by its watchdog ({reasons}) or from elsewhere"
    return rental.failed_error("is gone", reason, is_gone=True)


async def stop_watchdog(rental: Rental, options: LeaseOptions) -> None:
    """End the watchdog of a kept pod; log an error if that fails."""
    if rental.status is None:
        return
    try:
        await end_watchdog(AsyncRemote(str(rental.pod_id), rental.status.nodes, options.ssh))
    except PrimePodsError as exc:
        _log.error("%s is kept, but its watchdog may still delete it: %s", rental.label, exc)
