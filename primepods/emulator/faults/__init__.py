"""Faults of the API, of gateways and of connections; a ``FaultPlan`` selects the requests they affect.

Durations are on the emulator's clock: with a ``ManualClock``, a delay lasts until the test advances the
clock. To define a fault, inherit from ``Fault``, and return a ``Response`` or ``Raw`` bytes from ``outcome``.
"""

from __future__ import annotations

import re

from .._api.http import Response as Response
from ._base import Fault as Fault
from ._base import Raw as Raw
from ._behaviour import DeadGpu as DeadGpu
from ._behaviour import Delay as Delay
from ._behaviour import LostDeletion as LostDeletion
from ._behaviour import OtherPod as OtherPod
from ._behaviour import Rename as Rename
from ._behaviour import Stale as Stale
from ._connections import BadChunk as BadChunk
from ._connections import Cut as Cut
from ._connections import Drip as Drip
from ._connections import Reset as Reset
from ._connections import WrongLength as WrongLength
from ._edits import Edit as Edit
from ._edits import Empty as Empty
from ._edits import EmptyData as EmptyData
from ._statuses import Html as Html
from ._statuses import Redirect as Redirect
from ._statuses import Status as Status

KINDS: dict[str, type[Fault]] = {
    re.sub(r"\B(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Fault) and kind is not Fault
}
"""Fault classes by their names in control routes."""
