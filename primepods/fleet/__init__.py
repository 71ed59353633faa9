"""Many pods at a glance: how many are ready, what they cost, and how it came to that.

``Fleet`` takes in the changes of a wait or a watch and keeps the figures; ``follow`` keeps one up to date for
a whole account, new pods included. The live views of the command and of the notebook show a fleet.
"""

from ._fleet import Fleet, FleetPod, FleetSample
from ._follow import follow
from ._states import Condition, condition_of

__all__ = ["Condition", "Fleet", "FleetPod", "FleetSample", "condition_of", "follow"]
