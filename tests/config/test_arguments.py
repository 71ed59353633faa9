"""Other arguments of a client, and what settings show of the key."""

from typing import Any

import attrs
import pytest

from primepods import RetryPolicy

from .resolving import OTHER, refuse, settings


@pytest.mark.parametrize("key", ["a b", "a\nb", "a\x00", "clé", "a\x7f", "\u200bkey", "Bearer key"])
@pytest.mark.parametrize("name", ["api_key", "team_id"])
def test_what_a_header_cannot_carry_is_refused(key: str, name: str) -> None:
    """A key that was copied with something around it, named without being shown."""
    message = refuse(**{"api_key": "k", name: key})
    what = "API key" if name == "api_key" else "team ID"
    assert message.startswith(f"The {what} (argument {name}) holds spaces, control or non-ASCII characters")
    assert "Copy it again." in message
    assert key not in message


def test_all_arguments_arrive() -> None:
    """Each at its setting, seconds as floats; settings are values, equal or not, that do not change."""
    policy = RetryPolicy(attempts=1)
    limits: dict[str, Any] = {"timeout": 1, "deadline": 2, "max_concurrency": 3, "retry": policy}
    found = settings(api_key="k", user_agent=" my-app/1 ", team_id="t", **limits)
    assert (found.timeout, found.deadline, found.max_concurrency, found.retry) == (1.0, 2.0, 3, policy)
    assert type(found.timeout) is float
    assert (found.user_agent, found.team_id, found.proxy) == ("my-app/1", "t", None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.timeout = 1  # type: ignore[misc]  # frozen
    assert hash(settings(api_key="k")) == hash(settings(api_key="k"))
    for name, value in {"api_key": "l", "base_url": OTHER, "team_id": "t", **limits}.items():
        assert settings(**{"api_key": "k", name: value}) != settings(api_key="k")
