"""How many pods were in which condition, as a picture."""

import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest

from primepods.charts import fleet_chart
from primepods.fleet import Fleet
from tests.fleet.changes import BEGIN, Timeline, change, grow


def areas(svg: str) -> dict[str, list[tuple[float, float]]]:
    """The corners of each condition's area."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in (element for element in ET.fromstring(svg).iter() if element.tag.endswith("}path")):
        corners = re.findall(r"[ML](\S+) ([\d.]+)", path.get("d", ""))
        found[path[0].text or ""] = [(float(x), float(y)) for x, y in corners]
    return found


def texts(svg: str) -> list[str]:
    """All that can be read in the picture."""
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.text]


def test_areas_stand_on_each_other() -> None:
    """Ready at the bottom, failed on top, each as high as its number of pods."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    for pod_id, word in [("a", "ready"), ("b", "ready"), ("c", "pending"), ("d", "failed"), ("e", "gone")]:
        fleet.add(change(pod_id, word))
    clock.advance(60)
    drawn = areas(str(fleet_chart(fleet)))
    assert list(drawn) == ["ready", "pending", "failed"]
    levels = [(min(y for _, y in corners), max(y for _, y in corners)) for corners in drawn.values()]
    assert [bottom for _, bottom in levels] == [246.0, levels[0][0], levels[1][0]]
    assert levels[0][1] - levels[0][0] == pytest.approx(2 * (levels[2][1] - levels[2][0]), abs=0.2)


def test_words() -> None:
    """Figures for who cannot see it, the price, the legend with the last counts, round times."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    grow(clock, fleet, 28, 604.8)
    chart = fleet_chart(fleet)
    assert chart.description == (
        "From 2026-11-25 09:58:07 to 2026-11-25 10:08:04 UTC; at the end 2 failed, 24 ready, 2 gone."
    )
    shown = texts(chart.svg)
    assert {"2 failed", "0 pending", "0 installing", "24 ready", "2 gone", "10:00", "10:08"} <= set(shown)
    assert any("$52.00 an hour" in text for text in shown)


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(5, "09:58:02"), (90, "09:58:30"), (3_600, "10:10"), (200_000, "11-26"), (9_000_000, "12-13")],
)
def test_times_are_round_and_few(seconds: float, label: str) -> None:
    """From seconds to months; a midnight is its date."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    fleet.add(change("a", "ready"))
    clock.advance(seconds)
    fleet.add(change("a", "failed"))
    labels = [text for text in texts(str(fleet_chart(fleet))) if re.fullmatch(r"\d\d[:-]\d\d(:\d\d)?", text)]
    assert label in labels
    assert 2 <= len(labels) <= 7


def test_a_long_time_stays_a_small_picture() -> None:
    """However many changes there were."""
    clock = Timeline()
    fleet = Fleet(now=clock)
    grow(clock, fleet, 1_500, timedelta(days=3).total_seconds())
    svg = str(fleet_chart(fleet))
    assert len(svg) < 60_000
    assert areas(svg)["ready"]


def test_nothing_to_show() -> None:
    """A fleet that was never seen, and one in its first moment."""
    assert "No pod was seen." in texts(str(fleet_chart(Fleet(["a"]))))
    fleet = Fleet(now=lambda: BEGIN)
    fleet.add(change("a", "ready"))
    assert list(areas(str(fleet_chart(fleet)))) == ["ready"]
