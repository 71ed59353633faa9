"""The environment's proxy."""

from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import pytest

from primepods.config import find_proxy

from .resolving import KEY, refuse, settings


def proxy(url: str = "https://api.example.com") -> str | None:
    """The proxy for an address."""
    found = find_proxy(urlsplit(url))
    assert found is None or "proxy" not in repr(found)
    return found if found is None else str(found)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "https://proxy"}, "https://proxy"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "HTTP://proxy:3128"}, "HTTP://proxy:3128"),
        ({"HTTPS_PROXY": "http://me:pw@proxy:3128"}, "http://me:pw@proxy:3128"),
        ({"ALL_PROXY": "http://proxy"}, "http://proxy"),
        ({"all_proxy": "http://proxy"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "ALL_PROXY": "http://all"}, "http://proxy"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": "http://proxy"}, "http://proxy"),
        ({"HTTP_PROXY": "http://proxy"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "a.com, .example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.example.com:443"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "ample.com"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "example.org"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "https://api.example.com"}, "http://proxy"),
        ({"ALL_PROXY": "socks5://proxy:1080", "NO_PROXY": "example.com"}, None),
        ({"ALL_PROXY": "socks5://proxy:1080", "HTTPS_PROXY": "http://proxy"}, "http://proxy"),
    ],
)
def test_the_environments_proxy_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: str | None
) -> None:
    """By scheme, then for all; not for hosts that are excepted."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy() == found
    assert settings(api_key="k", base_url="https://api.example.com").proxy == found
    assert settings(api_key="k", base_url="https://api.example.com", own_connections=False).proxy is None


@pytest.mark.parametrize("host", ["a.test", "a.test:8443", "[2001:db8::1]", "[2001:db8::1]:8443"])
@pytest.mark.parametrize(
    "excepted",
    ["a.test", "a.test:8443", "test:8443", ".test", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:8443"],
)
def test_no_proxy_is_read_as_python_reads_it(
    monkeypatch: pytest.MonkeyPatch, host: str, excepted: str
) -> None:
    """Names, ports and addresses, as `urllib.request` understands them."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert (proxy(f"https://{host}") is None) == bool(proxy_bypass(host))


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost:8000", "https://localhost", "http://a.localhost", "http://127.0.0.1:1"),
        "https://[::1]:8443",
    ],
)
def test_this_machine_is_never_behind_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Whatever kind of proxy the environment names."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://proxy:1080")
    assert proxy(url) is None


@pytest.mark.parametrize("kind", ["socks5", "SOCKS5h", "socks4", "ftp"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_not_spoken_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """To go around it in silence could be forbidden; a session of one's own helps."""
    monkeypatch.setenv(name, f"{kind}://me:{KEY}@proxy:1080")
    message = refuse(api_key=KEY)
    assert f"({name}) or the system is a {kind.lower()} proxy, which aiohttp does not support" in message
    assert "NO_PROXY" in message
    assert settings(api_key="k", own_connections=False).proxy is None


@pytest.mark.parametrize(
    "value",
    [
        *(f"http://me:{KEY}@proxy:x", f"http://me:{KEY}@[::1", "http://", "http://proxy:99999"),
        f"me:{KEY}@proxy:0",
    ],
)
def test_a_proxy_that_is_no_url_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """At construction, not as somebody else's exception at the first request; the password is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    message = refuse(api_key=KEY)
    assert message.startswith("The proxy of the environment (HTTPS_PROXY) or the system is not a URL.")
