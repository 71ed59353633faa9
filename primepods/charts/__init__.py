"""SVG charts of a fleet and its cost, without a plotting library.

They fit light and dark pages, and notebooks display them. ``str(chart)`` is the SVG document.
"""

from ._fleet import fleet_chart
from ._spend import spend_chart, spend_per_day
from ._svg import Chart

__all__ = ["Chart", "fleet_chart", "spend_chart", "spend_per_day"]
