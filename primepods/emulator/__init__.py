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

if TYPE_CHECKING:
    from ._server.host import Host
    from ._state.pods import EmulatedPod, PodOverrides
    from .clock import Clock, ManualClock, SystemClock
    from .emulator import Emulator
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
else:
    _MODULES = {
        "Host": "_server.host",
        **dict.fromkeys(("EmulatedPod", "PodOverrides"), "_state.pods"),
        **dict.fromkeys(("Clock", "ManualClock", "SystemClock"), "clock"),
        "Emulator": "emulator",
        **dict.fromkeys(("FaultPlan", "Rule"), "faultplan"),
        **dict.fromkeys(("Request", "RequestLog"), "requestlog"),
    }

    def __getattr__(name: str) -> Any:
        # Imported at first use: each command on an emulated pod starts `local_ssh`, which needs none of them.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES.get(name, 'faults')}", __name__), name)
        globals()[name] = value
        return value


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
