"""A stateful local stand-in for the Prime Intellect pods API, for tests, demos and rehearsals.

```python
from primepods.emulator import Emulator

with Emulator(pods=200, seed=7, boot_seconds=30) as emu:
    ...  # any client of the API, pointed at emu.url with emu.api_key
```
"""

from primepods.emulator.clock import Clock, ManualClock, SystemClock
from primepods.emulator.pods import EmulatedPod, PodOverrides
from primepods.emulator.requestlog import Request, RequestLog
from primepods.emulator.server import Emulator

__all__ = [
    "Clock",
    "EmulatedPod",
    "Emulator",
    "ManualClock",
    "PodOverrides",
    "Request",
    "RequestLog",
    "SystemClock",
]
