"""SVG charts of a fleet and its cost, without a plotting library.

They suit light and dark pages, display themselves in a notebook, and ``str(chart)`` is the file:
``Path("spend.svg").write_text(str(chart))``.
"""

from ._fleet import fleet_chart
from ._spend import spend_chart, spend_per_day
from ._svg import Chart

__all__ = ["Chart", "fleet_chart", "spend_chart", "spend_per_day"]
