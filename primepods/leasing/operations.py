"""What leases and sweeps do with ``client.pods``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine
from typing import Any

import attrs

from ..models import HistoryRecord, Pod, PodState, PodStatus
from ..specs import PodSpec


@attrs.frozen(kw_only=True)
class PodOperations:
    """The methods of these names.

    Attributes:
        named: Returns a spec with a name, and refuses what is no spec.
        find: Returns the pod that an order of unknown outcome has made, by name and by the time of the order
            in seconds since the epoch; raises :class:`~primepods.CreateUncertainError` if there is none.
    """

    named: Callable[[PodSpec], PodSpec]
    create: Callable[[PodSpec], Coroutine[Any, Any, Pod]]
    find: Callable[[str, float], Coroutine[Any, Any, Pod]]
    list: Callable[[], AsyncIterable[Pod]]
    history: Callable[[], AsyncIterable[HistoryRecord]]
    wait_ready: Callable[..., Coroutine[Any, Any, PodStatus]]
    wait_gone: Callable[..., Coroutine[Any, Any, None]]
    delete: Callable[..., Coroutine[Any, Any, PodState]]
