"""Overview of many pods: counts by condition, their history, and the cost.

``Fleet`` computes these from the changes of a wait or a watch. ``follow`` keeps a fleet up to date, for given
pods or for all pods of an account.
"""

from ._fleet import Fleet, FleetPod, FleetSample
from ._follow import follow
from ._states import Condition, condition_of

__all__ = ["Condition", "Fleet", "FleetPod", "FleetSample", "condition_of", "follow"]
