"""Overview of many pods, with counts by condition, their history, and the cost.

A wait or a watch can update a ``Fleet``; ``follow`` updates it from given pods or all pods of an account.
"""

from ._fleet import Fleet, FleetPod, FleetSample
from ._follow import follow
from ._states import Condition, condition_of

__all__ = ["Condition", "Fleet", "FleetPod", "FleetSample", "condition_of", "follow"]
