"""A stateful local emulator of the Prime Intellect pods API, for tests and demos.

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
        DeadGpu,
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
    _PUBLIC = {
        "_server.host": "Host",
        "_state.pods": "EmulatedPod PodOverrides",
        "clock": "Clock ManualClock SystemClock",
        "emulator": "Emulator",
        "faultplan": "FaultPlan Rule",
        "faults": (
            "BadChunk Cut DeadGpu Delay Drip Edit Empty EmptyData Fault Html LostDeletion OtherPod Redirect "
            "Rename Reset Stale Status WrongLength"
        ),
        "requestlog": "Request RequestLog",
    }
    _MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use, so that `local_ssh`, which uses none, starts fast."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value


__all__ = [
    "BadChunk",
    "Clock",
    "Cut",
    "DeadGpu",
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
