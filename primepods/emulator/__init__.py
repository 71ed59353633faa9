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
    from ._state.pods import EmulatedPod as EmulatedPod
    from ._state.pods import PodOverrides as PodOverrides
    from .clock import Clock as Clock
    from .clock import ManualClock as ManualClock
    from .clock import SystemClock as SystemClock
    from .emulator import Emulator as Emulator
    from .faultplan import FaultPlan as FaultPlan
    from .faultplan import Rule as Rule
    from .faults import BadChunk as BadChunk
    from .faults import Cut as Cut
    from .faults import DeadGpu as DeadGpu
    from .faults import Delay as Delay
    from .faults import Drip as Drip
    from .faults import Edit as Edit
    from .faults import Empty as Empty
    from .faults import EmptyData as EmptyData
    from .faults import Fault as Fault
    from .faults import Html as Html
    from .faults import LostDeletion as LostDeletion
    from .faults import OtherPod as OtherPod
    from .faults import Redirect as Redirect
    from .faults import Rename as Rename
    from .faults import Reset as Reset
    from .faults import Stale as Stale
    from .faults import Status as Status
    from .faults import WrongLength as WrongLength
    from .requestlog import Request as Request
    from .requestlog import RequestLog as RequestLog
else:
    _PUBLIC = {
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
    __all__ = list(_MODULE_OF)

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use, so that `local_ssh`, which uses none, starts fast."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
