"""What an emulator is like: everything about it that does not change while it runs."""

import math
from typing import Any

from attrs import Attribute, field, frozen


def check_amount(name: str, value: float) -> None:
    """Raise `ValueError` for what is no finite number of at least 0."""
    if not (math.isfinite(value) and value >= 0):
        msg = f"{name} must be zero or more, not {value!r}"
        raise ValueError(msg)


def _amount(instance: object, attribute: "Attribute[Any]", value: float) -> None:
    del instance
    check_amount(attribute.name, value)


def _share(instance: object, attribute: "Attribute[Any]", value: float) -> None:
    del instance
    if not 0 <= value <= 1:
        msg = f"{attribute.name} is a share between 0 and 1, not {value!r}"
        raise ValueError(msg)


def _amount_or_none(instance: object, attribute: "Attribute[Any]", value: float | None) -> None:
    if value is not None:
        _amount(instance, attribute, value)


@frozen(kw_only=True)
class Nature:
    """See `Emulator` for what the fields mean. Raises `ValueError` for values that make no sense."""

    seed: int
    boot_seconds: float = field(validator=_amount)
    delete_seconds: float = field(validator=_amount)
    appear_seconds: float = field(validator=_amount)
    failure_rate: float = field(validator=_share)
    flaky_rate: float = field(validator=_share)
    cluster_rate: float = field(validator=_share)
    spot_rate: float = field(validator=_share)
    spot_seconds: float = field(validator=_amount)
    stock: int | None = field(validator=_amount_or_none)
    max_page_size: int = field(validator=_amount)
