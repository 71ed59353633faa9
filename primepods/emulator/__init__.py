"""A stateful local stand-in for the Prime Intellect pods API, for tests, demos and rehearsals.

```python
from primepods.emulator import Emulator, Status

with Emulator(pods=200, seed=7, boot_seconds=30) as emu:
    emu.faults.add(Status(429, retry_after=2), on="status", times=3)
    ...  # any client of the API, pointed at emu.url with emu.api_key
```
"""

from primepods.emulator.clock import Clock, ManualClock, SystemClock
from primepods.emulator.faultplan import FaultPlan, Rule
from primepods.emulator.faults import (
    BadChunk,
    Cut,
    Delay,
    Drip,
    Empty,
    EmptyData,
    Fault,
    Html,
    Redirect,
    Reset,
    Stale,
    Status,
    WrongLength,
)
from primepods.emulator.host import Host
from primepods.emulator.pods import EmulatedPod, PodOverrides
from primepods.emulator.requestlog import Request, RequestLog
from primepods.emulator.server import Emulator

__all__ = [
    "BadChunk",
    "Clock",
    "Cut",
    "Delay",
    "Drip",
    "Empty",
    "EmptyData",
    "EmulatedPod",
    "Emulator",
    "Fault",
    "FaultPlan",
    "Host",
    "Html",
    "ManualClock",
    "PodOverrides",
    "Redirect",
    "Request",
    "RequestLog",
    "Reset",
    "Rule",
    "Stale",
    "Status",
    "SystemClock",
    "WrongLength",
]
