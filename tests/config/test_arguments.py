"""Other arguments of a client, and what settings show of the key."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
import pytest

from primepods import RetryPolicy
from primepods.config import (
    DEFAULT_BASE_URL,
)

from .resolving import KEY, OTHER, Files, refuse, settings


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


def test_settings_never_show_the_key(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a proxy's password: not in repr, nor as a dict, nor pickled."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@proxy")
    files.write("config.json", {"api_key": KEY})
    found = settings()
    assert str(found.api_key) == KEY
    shown = [
        repr(found),
        str(found),
        f"{found}",
        repr(attrs.asdict(found)),
        repr([found.api_key, found.proxy]),
    ]
    shown += [repr(pickle.dumps(found, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for text in shown:
        assert KEY not in text
        assert KEY[:12] not in text
    assert not hasattr(found, "__dict__")
    rebuilt = pickle.loads(pickle.dumps(found))
    assert (str(rebuilt.api_key), rebuilt.base_url) == ("", DEFAULT_BASE_URL)
