"""A stateful local emulator of the Prime Intellect pods API, for tests, demos and rehearsals.

```python
from primepods.emulator import Emulator, Status

with Emulator(pods=200, seed=7, boot_seconds=30) as emu:
    emu.faults.add(Status(429, retry_after=2), on="status", times=3)
    ...  # any client of the API, pointed at emu.url with emu.api_key
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._state.pods import EmulatedPod, PodOverrides
from .clock import Clock, ManualClock, SystemClock
from .faultplan import FaultPlan, Rule
from .faults import (
    BadChunk,
    Cut,
    Delay,
    Drip,
    Edit,
    Empty,
    EmptyData,
    Fault,
    Html,
    LostDeletion,
    OtherPod,
    Redirect,
    Rename,
    Reset,
    Stale,
    Status,
    WrongLength,
)
from .requestlog import Request, RequestLog

if TYPE_CHECKING:
    from ._server.host import Host
    from .emulator import Emulator
else:
    _MODULES = {"Emulator": ".emulator", "Host": "._server.host"}

    def __getattr__(name: str) -> Any:
        # Imported on first use, as both load aiohttp: `local_ssh` starts three times as fast without aiohttp.
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name], __name__), name)


__all__ = [
    "BadChunk",
    "Clock",
    "Cut",
    "Delay",
    "Drip",
    "Edit",
    "Empty",
    "EmptyData",
    "EmulatedPod",
    "Emulator",
    "Fault",
    "FaultPlan",
    "Host",
    "Html",
    "LostDeletion",
    "ManualClock",
    "OtherPod",
    "PodOverrides",
    "Redirect",
    "Rename",
    "Request",
    "RequestLog",
    "Reset",
    "Rule",
    "Stale",
    "Status",
    "SystemClock",
    "WrongLength",
]
