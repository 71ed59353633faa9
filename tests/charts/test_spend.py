"""What was spent a day, as numbers and as a picture."""

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import HistoryRecord
from primepods.charts import spend_chart, spend_per_day

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def record(billed: float, start: datetime = NOON, end: datetime | None = None) -> HistoryRecord:
    """Something that was rented."""
    return HistoryRecord(
        id="a",
        type="Instance",
        gpu_name="H100_80GB",
        gpu_count=1,
        provider_type="x",
        price_hr=1.0,
        total_billed_price=billed,
        created_at=start,
        terminated_at=end,
    )


def read(svg: str) -> ET.Element:
    """The picture, which must be well-formed."""
    return ET.fromstring(svg)


def texts(svg: str) -> list[str]:
    """All that can be read in the picture."""
    return [
        element.text or ""
        for element in read(svg).iter()
        if element.tag.endswith(("}text", "}title", "}desc"))
    ]


def bars(svg: str) -> list[ET.Element]:
    """The bars, in the order of the days."""
    return [element for element in read(svg).iter() if element.get("class") == "bar"]


def test_a_bill_is_spread_over_its_days() -> None:
    """A pod that ran from noon for two days counts a quarter, a half, a quarter; days between are there."""
    rows = [record(8.0, NOON, NOON + timedelta(days=2)), record(1.0, NOON + timedelta(days=4))]
    assert list(spend_per_day(rows).items()) == [
        (date(2026, 11, 20), 2.0),
        (date(2026, 11, 21), 4.0),
        (date(2026, 11, 22), 2.0),
        (date(2026, 11, 23), 0.0),
        (date(2026, 11, 24), 1.0),
    ]


def test_days_are_those_of_utc() -> None:
    """Whatever zone the API writes its times in."""
    evening = datetime(2026, 11, 20, 22, tzinfo=timezone(timedelta(hours=-5)))
    assert list(spend_per_day([record(3.0, evening, evening + timedelta(hours=1))])) == [date(2026, 11, 21)]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *((NOON, end) for end in (None, NOON, NOON - timedelta(days=3), LAST)),
        (LAST - timedelta(days=2), LAST),
    ],
)
def test_without_a_sensible_end_the_first_day_counts(start: datetime, end: datetime | None) -> None:
    """No end, an end before the beginning, the end of all time."""
    assert spend_per_day([record(3.0, start, end)]) == {start.date(): 3.0}


@pytest.mark.parametrize("billed", [0.0, math.nan, math.inf])
def test_what_is_no_amount_is_left_out(billed: float) -> None:
    """A day's sum stays a number."""
    assert spend_per_day([record(billed)]) == {}
    assert "Nothing was billed." in texts(str(spend_chart([record(billed)])))


@given(st.lists(st.tuples(st.floats(0, 1e6), MOMENTS, st.floats(0, 3e7)), max_size=20))
def test_nothing_is_lost_or_counted_twice(bills: list[tuple[float, datetime, float]]) -> None:
    """The days' sum is what was billed."""
    rows = [record(billed, start, start + timedelta(seconds=lasted)) for billed, start, lasted in bills]
    days = spend_per_day(rows)
    assert math.fsum(days.values()) == pytest.approx(math.fsum(billed for billed, _, _ in bills))
    assert list(days) == sorted(days)


def test_picture() -> None:
    """A bar a day, as high as its amount, with its amount as a hint; the total; and all of it in words."""
    chart = spend_chart([record(10.0), record(40.0, NOON + timedelta(days=1))])
    low, high = bars(str(chart))
    assert float(high.get("height", 0)) == pytest.approx(4 * float(low.get("height", 0)), abs=0.1)
    shown = texts(chart.svg)
    assert {"2026-11-20: $10.00", "2026-11-21: $40.00", "total $50.00"} <= set(shown)
    assert shown[:2] == ["Billed per day (UTC)", chart.description]
    assert "The highest amount on one day was $40.00, on 2026-11-21" in chart.description
    assert chart._repr_svg_() == chart.svg
    assert len(repr(chart)) < 200


def test_of_years_the_last_one_is_drawn() -> None:
    """What was billed before is named."""
    chart = spend_chart([record(7.0), record(3.0, NOON - timedelta(days=1000))])
    assert len(bars(chart.svg)) == 366
    assert "last 366 days $7.00, before $3.00" in texts(chart.svg)


@pytest.mark.parametrize("amount", [0.004, 0.9, 1.0, 37.0, 99.0, 123456.0, -5.0])
def test_scale_fits_the_amount(amount: float) -> None:
    """No bar leaves the picture, and no two marks read the same."""
    svg = str(spend_chart([record(amount)]))
    [bar] = bars(svg)
    assert 52 <= float(bar.get("y", 0)) <= 246
    marks = [element.text for element in read(svg).iter() if element.get("text-anchor") == "end"][1:]
    assert len(set(marks)) == len(marks) >= 2


def test_what_is_not_ours_is_text() -> None:
    """A title with markup shows as it is, on one line; what XML cannot hold is left out."""
    assert "<script> & x" in texts(str(spend_chart([record(1.0)], title="<script>\n&\x00x")))


@pytest.mark.parametrize("days", [1, 8, 25, 49])
def test_no_date_is_cut_off(days: int) -> None:
    """The last date under the bars ends inside the picture."""
    chart = spend_chart([record(1.0, NOON + timedelta(days=number)) for number in range(days)])
    labels = [
        (float(element.get("x", 0)), element.get("text-anchor"))
        for element in read(chart.svg).iter("{http://www.w3.org/2000/svg}text")
        if re.fullmatch(r"\d{4}-\d\d-\d\d", element.text or "")
    ]
    width = 66
    assert labels
    assert all(x + (width / 2 if anchor == "middle" else 0) <= 860 for x, anchor in labels)
