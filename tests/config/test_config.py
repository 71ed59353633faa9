"""Settings: where each comes from, that files are only read, and that a key goes nowhere it should not."""

from __future__ import annotations

import errno
import json
import pickle
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primepods import ConfigError, RetryPolicy, config
from primepods._utils.secret import Secret
from primepods.config import (
    DEFAULT_BASE_URL,
    DEFAULT_DEADLINE,
    DEFAULT_MAX_CONCURRENCY,
    DEFAULT_TIMEOUT,
    KEY_PAGE,
    Settings,
    check_base_url,
    find_proxy,
    is_loopback,
    origin,
    resolve,
)
from primepods.config._files import Found
from tests.support.json_values import ANY_TEXT

KEY = "pit_0123456789_key_of_the_tests"
OTHER = "https://other.example.com"
STAGING = "https://staging.example.com"

DEFAULTS: dict[str, Any] = {
    "api_key": None,
    "base_url": None,
    "team_id": None,
    "timeout": DEFAULT_TIMEOUT,
    "deadline": DEFAULT_DEADLINE,
    "max_concurrency": DEFAULT_MAX_CONCURRENCY,
    "retry": RetryPolicy(),
    "user_agent": None,
    "own_connections": True,
}


def settings(**arguments: Any) -> Settings:
    """What a client with these arguments is told."""
    key = arguments.get("api_key")
    # As clients do, first of all.
    return resolve(**{**DEFAULTS, **arguments, "api_key": Secret(key) if isinstance(key, str) else key})


def told(**arguments: Any) -> tuple[str, str, str | None]:
    """Key, base URL and team."""
    found = settings(**arguments)
    return str(found.api_key), found.base_url, found.team_id


def refuse(**arguments: Any) -> str:
    """The message of the `ConfigError`, checked for what no message may hold or lack."""
    with pytest.raises(ConfigError) as caught:
        settings(**arguments)
    error = caught.value
    message = str(error)
    assert message.endswith(".")
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if Path(frame.filename).parent == Path(config.__file__).parent]
    for shown in (message, *(str(frame.locals) for frame in ours), repr(vars(error))):
        assert KEY not in shown
    return message


class Files:
    """The official command's files in a home of the test's own."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".prime"

    def write(self, name: str, content: Any) -> Path:
        """Write one; what is no text or bytes as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def state(self) -> list[tuple[str, int, int, bytes]]:
        """All that would change if anything were written."""
        home = self.folder.parent
        entries = [home, *sorted(home.rglob("*"))]
        return [
            (
                str(path),
                path.stat().st_mtime_ns,
                path.stat().st_mode,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in entries
        ]


@pytest.fixture
def files(clean_environment: Path) -> Files:
    """The official command's files."""
    return Files(clean_environment)


# --- Where settings come from ----------------------------------------------------------------------


def test_arguments_come_before_environment_and_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three settings, peeled off source by source, down to the default."""
    files.write("config.json", {"api_key": "f", "team_id": "tf", "base_url": "https://file.example.com"})
    monkeypatch.setenv("PRIME_API_KEY", "e")
    monkeypatch.setenv("PRIME_TEAM_ID", "te")
    monkeypatch.setenv("PRIME_API_BASE_URL", "https://first.example.com")
    monkeypatch.setenv("PRIME_BASE_URL", "https://second.example.com")
    assert told(api_key="a", base_url=OTHER, team_id="ta") == ("a", OTHER, "ta")
    assert told() == ("e", "https://first.example.com", "te")
    monkeypatch.delenv("PRIME_API_BASE_URL")
    assert told() == ("e", "https://second.example.com", "te")
    monkeypatch.delenv("PRIME_BASE_URL")
    monkeypatch.delenv("PRIME_TEAM_ID")
    assert told() == ("e", "https://file.example.com", "tf")
    monkeypatch.delenv("PRIME_API_KEY")
    assert told() == ("f", "https://file.example.com", "tf")
    files.write("config.json", {"api_key": "f"})
    assert told() == ("f", "https://api.primeintellect.ai", None)


def test_blank_variables_are_as_good_as_none(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is how shells and containers say "unset"; blanks around a value are none of it."""
    for name in ("PRIME_API_KEY", "PRIME_TEAM_ID", "PRIME_API_BASE_URL", "PRIME_BASE_URL", "PRIME_CONTEXT"):
        monkeypatch.setenv(name, " \n")
    files.write("config.json", {"api_key": " f\n", "team_id": " ", "base_url": ""})
    assert told() == ("f", DEFAULT_BASE_URL, None)
    monkeypatch.setenv("PRIME_API_KEY", " e\n")
    assert told()[0] == "e"
    assert told(api_key=" a\n")[0] == "a"


def test_a_key_that_is_nowhere_is_asked_for(files: Files) -> None:
    """With the places that were looked at, where keys come from and which permission they need."""
    for content in (None, {}, {"api_key": ""}, {"api_key": None, "team_id": None, "base_url": None}):
        if content is not None:
            files.write("config.json", content)
        message = refuse()
        for part in ("api_key", "PRIME_API_KEY", "~/.prime/config.json", KEY_PAGE, "Instances: Read"):
            assert part in message


@pytest.mark.parametrize("name", ["api_key", "base_url", "team_id"])
def test_an_empty_argument_is_a_mistake(name: str) -> None:
    """Usually a variable that was not set: it must not turn into somebody else's key from a file."""
    for value in ("", "  "):
        assert refuse(**{"api_key": "k", name: value}).startswith(f"The argument {name} is empty.")


# --- Contexts --------------------------------------------------------------------------------------


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
    """Who names one means its account: a key, host, team or context of the environment is of another."""
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


# --- Files are only read ---------------------------------------------------------------------------


@pytest.mark.parametrize("context", [None, "production", "staging", "nowhere"])
@pytest.mark.parametrize("exists", [True, False])
def test_files_are_only_read(
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    context: str | None,
    exists: bool,
) -> None:
    """None is created, changed or touched, whatever is asked for, and whether it works or not."""
    if exists:
        files.write("config.json", {"api_key": KEY, "team_id": "t"})
        files.write("environments/staging.json", {"api_key": "s"})
    if context is not None:
        monkeypatch.setenv("PRIME_CONTEXT", context)
    before = files.state()
    for arguments in ({}, {"api_key": "k"}, {"api_key": "k", "base_url": OTHER}):
        try:
            settings(**arguments)
        except ConfigError:
            assert context is not None or not exists
    assert files.state() == before
    assert files.folder.exists() == exists


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "cut": (f'{{"api_key": "{KEY}"'.encode(), "it is not JSON"),
    "a comma too many": (f'{{"api_key": "{KEY}",}}'.encode(), "it is not JSON"),
    "empty": (b"", "it is not JSON"),
    "the bare key": (KEY.encode(), "it is not JSON"),
    "no UTF-8": (b'{"api_key": "\xff' + KEY.encode() + b'"}', "it is not JSON"),
    "bottomless": (b"[" * 100_000, "it is not JSON"),
    "a number without end": (b'{"a": ' + b"9" * 5_000 + b"}", "it is not JSON"),
    "a list": (json.dumps([KEY]).encode(), "it is not a JSON object"),
    "a string": (json.dumps(KEY).encode(), "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("where", ["config.json", "environments/staging.json"])
def test_a_file_that_cannot_be_used_is_named_without_its_content(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """With what is wrong and what to do, and without the key that stands in it."""
    content, reason = UNUSABLE[name]
    path = files.write(where, content)
    if "staging" in where:
        monkeypatch.setenv("PRIME_CONTEXT", "staging")
    for arguments in ({}, {"api_key": "k"}, {"base_url": OTHER}):
        assert refuse(**arguments).startswith(
            f"{path} cannot be used: {reason}. Repair or remove it, or give both"
        )
    assert told(api_key="k", base_url=OTHER) == ("k", OTHER, None)


def test_a_file_that_may_not_be_read_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the system says about it; with key and host given it does not matter."""
    path = files.write("config.json", {"api_key": KEY})

    def forbidden(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert refuse().startswith(f"{path} cannot be used: Permission denied. Repair or remove it")
    assert told(api_key="k", base_url=OTHER) == ("k", OTHER, None)


def test_a_file_and_a_folder_may_be_mixed_up(files: Files) -> None:
    """A folder in place of the file is named; in a file in place of the folder nothing can be."""
    files.folder.write_text("")
    assert "No API key found" in refuse()
    files.folder.unlink()
    (files.folder / "config.json").mkdir(parents=True)
    assert "config.json cannot be used: " in refuse()


@pytest.mark.parametrize("name", ["api_key", "base_url", "team_id"])
@pytest.mark.parametrize("value", [5, True, [KEY], {"a": KEY}])
def test_a_field_of_the_wrong_type_is_named(files: Files, name: str, value: Any) -> None:
    """With the file, the field and the type."""
    path = files.write("config.json", {"api_key": KEY, name: value})
    kind = type(value).__name__
    assert refuse() == f"{path}: {name} must be a string, not {kind}. Correct the file."


def test_a_file_written_on_windows_is_read(files: Files) -> None:
    """A byte order mark does no harm."""
    files.write("config.json", json.dumps({"api_key": "f"}).encode("utf-8-sig"))
    assert told()[0] == "f"


def test_without_a_home_there_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in some containers."""

    def nowhere() -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.setattr(Path, "home", nowhere)
    assert told(api_key="k") == ("k", DEFAULT_BASE_URL, None)


# --- A file's key stays with its host --------------------------------------------------------------


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


# --- Base URLs -------------------------------------------------------------------------------------


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
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
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


def test_origins_are_scheme_host_and_port() -> None:
    """With the port that is meant where none is written."""
    assert origin(urlsplit("https://a/b?c")) == ("https", "a", 443) == origin(urlsplit("https://A:443"))
    assert origin(urlsplit("http://[::1]")) == ("http", "::1", 80)
    assert origin(urlsplit("https://a:80")) != origin(urlsplit("http://a:80"))


# --- Proxies ---------------------------------------------------------------------------------------


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
    assert f"({name}) names a {kind.lower()} proxy, which aiohttp does not support" in message
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
    assert message.startswith("The environment (HTTPS_PROXY) names a proxy that is not a URL.")


# --- All the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a b", "a\nb", "a\x00", "clé", "a\x7f", "\u200bkey", "Bearer key"])
@pytest.mark.parametrize("name", ["api_key", "team_id"])
def test_what_a_header_cannot_carry_is_refused(key: str, name: str) -> None:
    """A key that was copied with something around it, named without being shown."""
    message = refuse(**{"api_key": "k", name: key})
    what = "API key" if name == "api_key" else "team ID"
    assert message.startswith(f"The {what} (argument {name}) holds spaces, control or non-ASCII characters")
    assert "Copy it again." in message
    assert key not in message


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"api_key": 5}, TypeError, "api_key must be a string, got int$"),
        ({"api_key": b"k"}, TypeError, "api_key must be a string, got bytes$"),
        ({"base_url": urlsplit("https://a")}, TypeError, r"base_url must be a string, got SplitResult\("),
        ({"team_id": 5}, TypeError, "team_id must be a string, got 5$"),
        ({"timeout": "30"}, TypeError, "timeout must be a number of seconds, got '30'$"),
        ({"deadline": True}, TypeError, "deadline must be a number of seconds, got True$"),
        ({"max_concurrency": 1.5}, TypeError, r"max_concurrency must be an integer, got 1\.5$"),
        ({"max_concurrency": True}, TypeError, "max_concurrency must be an integer, got True$"),
        ({"retry": 3}, TypeError, r"retry must be .*, got 3; for no retries: RetryPolicy\(attempts=1\)$"),
        ({"retry": None}, TypeError, r"retry must be a primepods\.RetryPolicy, got None"),
        ({"user_agent": 5}, TypeError, "user_agent must be a string, got 5$"),
        ({"timeout": 0}, ValueError, "timeout must be a finite number of seconds, positive, got 0$"),
        ({"deadline": float("inf")}, ValueError, "deadline must be a finite number of seconds, positive, "),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1, got 0$"),
        ({"user_agent": ""}, ValueError, "user_agent must be printable ASCII text, got ''$"),
        ({"user_agent": "a\r\nX: b"}, ValueError, "user_agent must be printable ASCII text, got "),
        ({"user_agent": "ä"}, ValueError, "user_agent must be printable ASCII text, got 'ä'$"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    """At construction, in words of the parameters, with the bound and the value."""
    with pytest.raises(kind, match=f"^{message}"):
        settings(**{"api_key": "k", **arguments})


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
