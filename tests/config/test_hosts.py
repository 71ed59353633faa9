"""Base URLs, and that a key goes to no host that it is not for."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import ConfigError
from primepods.config import DEFAULT_BASE_URL, check_base_url, is_loopback, saved_contexts
from primepods.config._files import Found
from tests.support.json_values import ANY_TEXT

from .resolving import KEY, OTHER, STAGING, Files, refuse, settings, told


@pytest.mark.parametrize(
    ("home", "base_url"),
    [
        (None, OTHER),
        (None, "https://api.primeintellect.ai:8443"),
        (None, "https://api.primeintellect.ai.example.com"),
        (None, "http://localhost:8000"),
        (STAGING, DEFAULT_BASE_URL),
        (STAGING, "https://staging.example.com:444"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001"),
        ("http://127.0.0.1:443", "https://127.0.0.1"),
    ],
)
@pytest.mark.parametrize("given", ["argument", "variable"])
def test_a_key_from_a_file_goes_to_no_other_host(
    files: Files, monkeypatch: pytest.MonkeyPatch, home: str | None, base_url: str, given: str
) -> None:
    """The message says where each comes from and what to do; with a key of its own the host is fine."""
    files.write("config.json", {"api_key": KEY, "team_id": "t", **({"base_url": home} if home else {})})
    arguments = {"base_url": base_url} if given == "argument" else {}
    if given == "variable":
        monkeypatch.setenv("PRIME_BASE_URL", base_url)
    source = "argument base_url" if given == "argument" else "environment variable PRIME_BASE_URL"
    message = refuse(**arguments)
    assert "config.json and belongs to" in message
    assert f"the base URL is {base_url!r} ({source})" in message
    assert "Pass api_key or set PRIME_API_KEY" in message
    assert told(api_key="k", **arguments) == ("k", base_url, None)
    monkeypatch.setenv("PRIME_API_KEY", "e")
    assert told(**arguments) == ("e", base_url, None)


@pytest.mark.parametrize("home", [None, "", "https://API.PrimeIntellect.ai:443/api/v1/", DEFAULT_BASE_URL])
def test_other_spellings_of_the_same_host_are_the_same(files: Files, home: str | None) -> None:
    """Case, default port and the API's path make no other host."""
    files.write("config.json", {"api_key": KEY, "base_url": home})
    for spelling in (
        "https://api.primeintellect.ai",
        "HTTPS://api.primeintellect.AI:443/",
        f"{DEFAULT_BASE_URL}/api/v1",
    ):
        assert told(base_url=spelling) == (KEY, DEFAULT_BASE_URL, None)


def test_a_context_is_a_file_of_its_own(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key, host and team go before those of the main file, and nothing of the other two is mixed in."""
    files.write("config.json", {"api_key": "main", "team_id": "tm", "base_url": OTHER})
    files.write(
        "environments/my-Staging_2.json", {"api_key": "s", "team_id": "ts", "base_url": f"{STAGING}/api/v1/"}
    )
    files.write("environments/bare.json", {"api_key": "b"})
    assert told() == ("main", OTHER, "tm")
    monkeypatch.setenv("PRIME_CONTEXT", " my-Staging_2 ")
    assert told() == ("s", STAGING, "ts")
    monkeypatch.setenv("PRIME_CONTEXT", "bare")
    assert told() == ("b", DEFAULT_BASE_URL, None)
    monkeypatch.setenv("PRIME_API_KEY", "e")
    assert told() == ("e", DEFAULT_BASE_URL, None)


def test_a_context_without_a_key_takes_the_main_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only then: another host must not see it."""
    files.write("config.json", {"api_key": KEY, "base_url": STAGING})
    files.write("environments/same.json", {"team_id": "t", "base_url": f"{STAGING}:443/"})
    files.write("environments/other.json", {"team_id": "t", "base_url": OTHER})
    monkeypatch.setenv("PRIME_CONTEXT", "same")
    assert told() == (KEY, STAGING, "t")
    monkeypatch.setenv("PRIME_CONTEXT", "other")
    message = refuse()
    assert "config.json and belongs to https://staging.example.com" in message
    assert "other.json" in message


@pytest.mark.parametrize("name", ["production", "Production", "PRODUCTION"])
def test_production_is_the_vendors_host_without_a_team(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The built-in context, as the official command has it: the main file's key, its own host, no team."""
    monkeypatch.setenv("PRIME_CONTEXT", name)
    assert "No API key found" in refuse()
    files.write("config.json", {"api_key": KEY, "team_id": "t"})
    files.write(f"environments/{name}.json", {"api_key": "never", "base_url": OTHER})
    assert saved_contexts() == ("production",), "once"
    assert told() == (KEY, DEFAULT_BASE_URL, None)
    assert told(team_id="given") == (KEY, DEFAULT_BASE_URL, "given")
    assert told(api_key="a") == ("a", DEFAULT_BASE_URL, None)


def test_production_does_not_get_the_key_of_another_host(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `prime config use staging` the main file holds the key of staging."""
    files.write("config.json", {"api_key": KEY, "team_id": "t", "base_url": STAGING})
    monkeypatch.setenv("PRIME_CONTEXT", "production")
    message = refuse()
    assert (
        f"belongs to {STAGING}, but the base URL is {DEFAULT_BASE_URL!r} (environment variable PRIME_CONTEXT)"
        in message
    )
    monkeypatch.setenv("PRIME_API_KEY", "e")
    assert told() == ("e", DEFAULT_BASE_URL, None)


@pytest.mark.parametrize(
    "name", ["../config", "..", ".", "a/b", "a\\b", "a b", "a.json", "ünï", "a\n", "-\u202e", "x" * 300 + "."]
)
def test_a_context_is_a_plain_word(files: Files, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It cannot lead out of its folder."""
    if name.strip() != name:
        name += "b"
    files.write("config.json", {"api_key": KEY})
    monkeypatch.setenv("PRIME_CONTEXT", name)
    message = refuse()
    assert message.startswith("The context ")
    assert "(environment variable PRIME_CONTEXT)" in message
    assert message.isprintable()


def test_a_context_that_does_not_exist_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Falling back to the main file would act on the wrong account."""
    files.write("config.json", {"api_key": KEY})
    monkeypatch.setenv("PRIME_CONTEXT", "staging")
    message = refuse()
    assert "The context 'staging' (environment variable PRIME_CONTEXT)" in message
    assert "environments/staging.json does not exist" in message.replace("\\", "/")


def test_a_context_that_is_named_goes_before_the_environment(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit context overrides key, host, team and context of the environment: another account's."""
    files.write("environments/staging.json", {"api_key": "s", "base_url": STAGING, "team_id": "ts"})
    files.write("environments/bare.json", {"api_key": "b"})
    for name, value in (("API_KEY", "e"), ("TEAM_ID", "te"), ("API_BASE_URL", OTHER), ("CONTEXT", "none")):
        monkeypatch.setenv(f"PRIME_{name}", value)
    assert told(context="staging") == ("s", STAGING, "ts")
    assert told(context="bare") == ("b", DEFAULT_BASE_URL, None)
    assert told(context="bare", team_id="a", api_key="k", base_url=OTHER) == ("k", OTHER, "a")
    assert "The context 'mistyped' (argument context)" in refuse(
        context="mistyped", api_key="k", base_url=OTHER
    )
    assert "The argument context is empty" in refuse(context=" ")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.example.com", "https://api.example.com"),
        (" https://api.example.com ", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com//", "https://api.example.com"),
        ("https://api.example.com/api/v1", "https://api.example.com"),
        ("https://api.example.com/api/v1/", "https://api.example.com"),
        ("https://api.example.com/proxy", "https://api.example.com/proxy"),
        ("https://api.example.com/proxy/api/v1/", "https://api.example.com/proxy"),
        ("https://api.example.com/api/v2", "https://api.example.com/api/v2"),
        ("https://api.example.com/my-api/v1", "https://api.example.com/my-api/v1"),
        ("https://api.example.com/a%20b", "https://api.example.com/a%20b"),
        ("HTTPS://API.Example.COM", "https://api.example.com"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("https://api.example.com:", "https://api.example.com"),
        ("https://api.example.com:8443/", "https://api.example.com:8443"),
        ("https://api.example.com//api/v1", "https://api.example.com"),
        ("https://api_1.example-2.com.", "https://api_1.example-2.com."),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://[::1]", "https://[::1]"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://LOCALHOST:80", "http://localhost"),
        ("http://api.localhost:8000", "http://api.localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_base_url_has_one_spelling(given: str, used: str) -> None:
    """The API's path and slashes at the end are dropped, ports kept where they are not the scheme's."""
    assert settings(api_key="k", base_url=given).base_url == used
    assert settings(api_key="k", base_url=used).base_url == used


NO_URL = [
    *("api.example.com", "api.example.com:443", "localhost:8000", "//api.example.com"),
    *("https:", "https:api.example.com", "https://", "https:///api/v1", "https://:8443"),
    *("ftp://api.example.com", "unix:///run/api"),
    *("https://api.example.com:0", "https://api.example.com:99999", "https://api.example.com:x"),
    *("https://[::1", "https://::1", "https://[::g]", "https://[v1.a]", "https://[api.example.com]"),
    *("https://.", "https://a..b", f"https://{'a' * 64}.example.com"),
    *("https://evil.com\\.example.com", "https://a<b", "https://a%2eb", "https://a b.example.com"),
    *("https://api.example.com/a b", "https://api.\nexample.com", "https://api.example.com/\x1b[2J"),
    *("https://äpi.example.com", "https://api.example.com/ä", "\ufeffhttps://api.example.com"),
]


@pytest.mark.parametrize("text", NO_URL)
def test_what_is_no_base_url_is_refused(text: str) -> None:
    """With where it was given, what was given, and what one looks like."""
    message = refuse(api_key=KEY, base_url=text)
    assert message.startswith(f"The base URL {text!r} (argument base_url) is not of the form https://host.")
    assert DEFAULT_BASE_URL in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        *("http://api.example.com", "http://127.0.0.1.example.com", "http://localhost.example.com"),
        *("http://notlocalhost", "http://0.0.0.0:8000", "http://[::]:8000", "http://10.0.0.1"),
        *("http://127.1", "http://2130706433", "HTTP://api.primeintellect.ai"),
    ],
)
def test_plain_http_is_for_this_machine_only(text: str) -> None:
    """The key would be readable on the way."""
    message = refuse(api_key=KEY, base_url=text)
    assert "is plain http, which would send the API key unencrypted. Use https" in message


@pytest.mark.parametrize(
    "text",
    [
        f"https://{KEY}@api.example.com",
        f"https://me:{KEY}@api.example.com",
        f"https://me:{KEY}@api.example.com:x",
        f"https://me:{KEY}@[::1",
        f"https://api.example.com?api_key={KEY}",
        f"https://api.example.com/#{KEY}",
        "https://@api.example.com",
        "https://api.example.com?",
    ],
)
def test_a_key_in_the_base_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Neither as a user or password nor as a query; the message says where it goes."""
    monkeypatch.setenv("PRIME_BASE_URL", text)
    message = refuse(api_key="k")
    assert "remove it. The key goes in api_key." in message
    assert "api.example.com" not in message


def test_the_source_of_a_wrong_url_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be found in a file, or in a long environment."""
    path = files.write("config.json", {"api_key": KEY, "base_url": "http://api.example.com"})
    assert f"(field base_url of {path}) is plain http" in refuse()
    for name in ("PRIME_BASE_URL", "PRIME_API_BASE_URL"):
        monkeypatch.setenv(name, "api.example.com")
        assert f"(environment variable {name})" in refuse(api_key="k")


@given(
    ANY_TEXT
    | st.lists(
        st.sampled_from(
            [*":/@?#[].\\%", "https://", "http://", "localhost", "a.b", "::1", "443", "/api/v1", " ", "é"]
        )
    ).map("".join)
)
def test_no_text_makes_another_base_url_than_it_says(text: str) -> None:
    """It is refused, or is an encrypted or local address whose host stands in the text, spelt in one way."""
    try:
        parts = check_base_url(Found(text, "test"))
    except ConfigError as error:
        text = str(error)
        assert text.isprintable()
        return
    url = parts.geturl()
    assert url.isascii()
    assert url.isprintable()
    again = urlsplit(url)
    assert again == parts
    assert again.hostname
    assert again.hostname in text.lower()
    assert again.scheme == "https" or is_loopback(again.hostname)
    assert (again.username, again.query, again.fragment) == (None, "", "")
    assert not again.path.endswith("/")
    assert check_base_url(Found(url, "test")) in {
        parts,
        parts._replace(path=parts.path.removesuffix("/api/v1").rstrip("/")),
    }
