"""Parameters of ``pods.lease`` except the spec."""

from __future__ import annotations

import attrs

from .._utils.arguments import check_amount, check_flag, check_interval, check_seconds
from ..remote import SSHOptions


def _validate_seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    check_seconds(attribute.name, value)


def _validate_budget(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None:
        what = "number of hours" if attribute.name == "max_hours" else "amount of money"
        check_amount(attribute.name, value, what)


def _validate_flag(_: object, attribute: attrs.Attribute[bool], value: bool) -> None:  # noqa: FBT001 - attrs' signature
    check_flag(attribute.name, value)


def _validate_interval(_: object, __: object, value: float) -> None:
    check_interval(value)


@attrs.frozen(kw_only=True)
class LeaseOptions:
    """Validated parameters of ``pods.lease`` except the spec.

    Raises:
        TypeError: A value has another type.
        ValueError: A number is out of range.
    """

    ready_timeout: float = attrs.field(validator=_validate_seconds)
    interval: float = attrs.field(validator=_validate_interval)
    max_hours: float | None = attrs.field(validator=_validate_budget)
    max_spend: float | None = attrs.field(validator=_validate_budget)
    release_timeout: float = attrs.field(validator=_validate_seconds)
    login: bool = attrs.field(default=False, validator=_validate_flag)
    ssh: SSHOptions = attrs.field(factory=SSHOptions)
