"""Specs: what may be in them, what an offer makes of them, and what they show."""

import math
import pickle
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import primepods
from primepods import Offer, PodSpec, Prices, SpecRange
from primepods.specs import PodChanges
from tests.renting.api import spec

RANGED = SpecRange(min_count=50, default_count=100, max_count=200, step=10)


def offer(**fields: Any) -> Offer:
    """An offer like any other."""
    values: dict[str, Any] = {
        "cloud_id": "n3-H100x1",
        "gpu_type": "H100_80GB",
        "socket": "PCIe",
        "provider": "hyperstack",
        "gpu_count": 1,
        "data_center": "CANADA-1",
        "country": "CA",
        "security": "secure_cloud",
        "prices": Prices(on_demand=1.9, currency="USD"),
        "images": ("ubuntu_22_cuda_12", "axolotl"),
    }
    return Offer(**(values | fields))


def test_an_offer_is_echoed() -> None:
    """Its row's values and default amounts, and its price as the highest to be paid."""
    given = offer(disk=RANGED, vcpu=SpecRange(default_count=8), memory=SpecRange(default_count=64))
    assert PodSpec.from_offer(given) == PodSpec(
        cloud_id="n3-H100x1",
        gpu_type="H100_80GB",
        socket="PCIe",
        gpu_count=1,
        provider="hyperstack",
        data_center_id="CANADA-1",
        country="CA",
        security="secure_cloud",
        disk_size=100,
        vcpus=8,
        memory=64,
        max_price=1.9,
    )


def test_any_field_that_does_not_name_the_offer_can_be_changed() -> None:
    """Type checkers know the arguments of `from_offer` from the names in a table of their own."""
    fields = {field.name for field in attrs.fields(PodSpec)}
    assert {*PodChanges.__annotations__} == fields - {"cloud_id", "gpu_type", "socket", "provider"}


def test_an_order_of_no_spec_tells_where_that_may_come_from() -> None:
    """No offer may have matched."""
    with (
        primepods.Client("key") as client,
        pytest.raises(ValueError, match="got none, as for no offers that match"),
    ):
        client.pods.lease(PodSpec.from_offers([]))


def test_changes_win() -> None:
    """What is given stands in place of the row's."""
    made = PodSpec.from_offer(offer(disk=RANGED), name="n", disk_size=150, max_price=None, country=None)
    assert (made.name, made.disk_size, made.max_price, made.country) == ("n", 150, None, None)


def test_what_cannot_be_ordered_is_left_out_of_a_row() -> None:
    """An empty place, no disk at all, or a default that the offer's own range does not have."""
    odd = {"disk": SpecRange(default_count=0), "memory": SpecRange(default_count=9, max_count=8)}
    made = PodSpec.from_offer(offer(data_center="", country=None, **odd))
    assert (made.data_center_id, made.country, made.disk_size, made.memory) == (None, None, None, None)


@pytest.mark.parametrize(
    ("images", "changes", "image"),
    [
        (("axolotl", "ubuntu_22_cuda_12"), {}, None),
        (("axolotl", "flux"), {}, "axolotl"),
        ((), {}, None),
        (("axolotl",), {"image": "flux"}, "flux"),
        (("axolotl",), {"custom_template_id": "t"}, None),
    ],
)
def test_the_image_is_one_that_the_offer_has(
    images: tuple[str, ...], changes: dict[str, Any], image: str | None
) -> None:
    """The API's default where the offer has it, else the first; a template decides for itself."""
    assert PodSpec.from_offer(offer(images=images), **changes).image == image


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"disk_size": 40},
            "disk_size must be from 50 to 200 in steps of 10 for the offer 'n3-H100x1', got 40",
        ),
        ({"disk_size": 210}, "from 50 to 200 in steps of 10"),
        ({"disk_size": 105}, "from 50 to 200 in steps of 10"),
        ({"vcpus": 7}, "vcpus must be from 8 in steps of 1"),
        ({"memory": 65}, "memory must be from 0 to 64 in steps of 1"),
        ({"gpu_count": 2}, "gpu_count must be 1"),
    ],
)
def test_amounts_outside_the_offers_range_are_refused(changes: dict[str, Any], words: str) -> None:
    """The message names least, most and step."""
    given = offer(disk=RANGED, vcpu=SpecRange(min_count=8), memory=SpecRange(max_count=64))
    with pytest.raises(ValueError, match=words):
        PodSpec.from_offer(given, **changes)


counts = st.none() | st.integers(0, 60)


@given(least=counts, most=counts, step=st.none() | st.integers(1, 9), count=st.integers(0, 70))
def test_a_range_allows_what_its_numbers_say(
    least: int | None, most: int | None, step: int | None, count: int
) -> None:
    """From the least to the most in steps."""
    spec_range = SpecRange(min_count=least, max_count=most, step=step)
    top = 1_000 if most is None else most
    assert spec_range.allows(count) == (count in range(least or 0, top + 1, step or 1))


PRICED = SpecRange(min_count=0, default_count=100, max_count=1000, price_per_unit=0.01)


@pytest.mark.parametrize(
    ("included", "disk_size", "price"),
    [
        (True, None, 2.0),
        (True, 150, 2.5),
        (True, 50, 2.0),
        (False, None, 3.0),
        (False, 150, 3.5),
        (None, None, 3.0),
    ],
)
def test_the_price_counts_amounts_that_are_priced_by_unit(
    *, included: bool | None, disk_size: int | None, price: float
) -> None:
    """All of them, or what goes beyond an included default; the highest price to be paid is the same."""
    given = offer(prices=Prices(on_demand=2.0), disk=attrs.evolve(PRICED, default_included_in_price=included))
    assert given.price_for(disk_size=disk_size) == pytest.approx(price)
    changes: Any = {} if disk_size is None else {"disk_size": disk_size}
    assert PodSpec.from_offer(given, **changes).max_price == pytest.approx(price)
    assert given.price_hr == given.price_for()


@pytest.mark.parametrize(
    ("security", "on_demand", "community", "price"),
    [
        ("secure_cloud", 2.0, None, 2.0),
        ("secure_cloud", 2.0, 1.0, 2.0),
        ("community_cloud", None, 1.0, 1.0),
        ("community_cloud", 2.0, 1.0, 1.0),
        ("community_cloud", 2.0, None, 2.0),
        (None, None, 1.0, 1.0),
    ],
)
def test_the_price_is_that_of_the_offers_cloud(
    security: str | None, on_demand: float | None, community: float | None, price: float
) -> None:
    """Secure machines have one price, community machines another."""
    given = offer(security=security, prices=Prices(on_demand=on_demand, community_price=community))
    assert given.price_hr == price
    assert PodSpec.from_offer(given).max_price == price


@pytest.mark.parametrize("price", [None, 0.0, -1.0, 1e308, math.inf, math.nan])
def test_an_offer_without_a_price_needs_a_limit(price: float | None) -> None:
    """A price of 0, or one that cannot be a limit, is none: whoever orders says what it may cost."""
    given = offer(prices=Prices(on_demand=price))
    no_limits: list[Any] = [{}, {"max_price": None}]
    for changes in no_limits:
        with pytest.raises(ValueError, match="has no usable price: set max_price"):
            PodSpec.from_offer(given, **changes)
    assert PodSpec.from_offer(given, max_price=2.0).max_price == 2.0


@given(st.decimals("0.01", "999", places=4), st.decimals("0.0001", "1", places=5), st.integers(1, 5_000))
def test_the_highest_price_is_never_below_the_price(base: Any, unit: Any, count: int) -> None:
    """Rounding goes up, and by no more than a hundredth of a cent."""
    disk = SpecRange(default_count=count, price_per_unit=float(unit))
    made = PodSpec.from_offer(offer(prices=Prices(on_demand=float(base)), disk=disk))
    exact = float(base + unit * count)
    assert exact - 1e-6 <= (made.max_price or 0) <= exact + 1.1e-4


@pytest.mark.parametrize(
    ("stock", "available"),
    [("Available", True), ("Low", True), ("Unavailable", False), (None, True), ("Plenty", True)],
)
def test_only_unavailable_is_unavailable(stock: str | None, *, available: bool) -> None:
    """A word that nobody knows yet, or none, does not hide an offer."""
    assert offer(stock_status=stock).is_available is available


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("cloud_id", "", ValueError),
        ("cloud_id", 5, TypeError),
        ("gpu_count", 0, ValueError),
        ("gpu_count", True, TypeError),
        ("gpu_count", 1.0, TypeError),
        ("disk_size", -1, ValueError),
        ("name", " padded", ValueError),
        ("name", "two\nlines", ValueError),
        ("name", "\ud800", ValueError),
        ("max_price", 0, ValueError),
        ("max_price", float("nan"), ValueError),
        ("max_price", float("inf"), ValueError),
        ("max_price", "2", TypeError),
        ("auto_restart", "no", TypeError),
        ("env_vars", [("A", "b")], TypeError),
        ("env_vars", {"A": 5}, TypeError),
        ("env_vars", {"": "b"}, ValueError),
        ("env_vars", {"A=B": "b"}, ValueError),
        ("env_vars", {"A": "\0"}, ValueError),
        ("env_vars", {"A": "\ud800"}, ValueError),
        ("disks", "d1", TypeError),
        ("disks", [1], TypeError),
        ("disks", 1, TypeError),
        ("prepaid_for_hr", 0, ValueError),
        ("team_member_ids", "ann", TypeError),
        ("shared_with_team", None, TypeError),
    ],
)
def test_bad_values_are_refused_by_field(field: str, value: object, kind: type[Exception]) -> None:
    """When the spec is made, and by the field's name."""
    with pytest.raises(kind, match=f"PodSpec.{field}"):
        spec(**{field: value})


def test_only_an_offer_is_echoed() -> None:
    """A row as it came over the wire is none."""
    with pytest.raises(TypeError, match="must be an Offer"):
        PodSpec.from_offer({"cloudId": "x"})  # type: ignore[arg-type] # what is refused


@pytest.mark.parametrize(
    "secret", [{"jupyter_password": "two\nlines"}, {"jupyter_password": 77321}, {"env_vars": {"A": 77321}}]
)
def test_refusals_do_not_repeat_secrets(secret: dict[str, Any]) -> None:
    """Their message may be logged."""
    with pytest.raises((TypeError, ValueError)) as caught:
        spec(**secret)
    assert "77321" not in str(caught.value)
    assert "lines" not in str(caught.value)


def test_a_spec_is_a_value() -> None:
    """Equal, hashable, picklable, and independent of the dictionary that it was made of."""
    variables = {"A": "1"}
    made = spec(env_vars=variables, disks=["d"])
    variables["B"] = "2"
    same = spec(env_vars={"A": "1"}, disks=("d",))
    assert made == same
    assert hash(made) == hash(same)
    assert pickle.loads(pickle.dumps(made)) == made
    assert isinstance(made.env_vars, Mapping)
