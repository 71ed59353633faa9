"""What every test starts from: an environment that knows no account, and asyncio."""

import gc
import inspect
import os
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.loops import LOOPS

pytest_plugins = ["tests.support.hypothesis_profile"]

_ROOT = Path(__file__).parent.parent

# A shell has its background jobs ignore Ctrl-C, and nohup a closed terminal: what a test starts would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let asynchronous tests run in a loop as large asyncio programs use it; CI does."""
    parser.addoption(
        "--event-loop",
        choices=LOOPS,
        default="asyncio",
        help="The loop of asynchronous tests: asyncio's, that with eager tasks (Python 3.12), or uvloop's.",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Two processes per core and one more, since tests wait; none where files are named, to start at once."""
    if all(".py" in argument for argument in config.args):
        return 0
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have each process of a whole run begin with other files, so that one compiles each file for all."""
    gc.disable()  # what is collected stays
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(path.relative_to(_ROOT) for path in _ROOT.glob("tests/**/test_*.py"))
    for path in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with suppress(Exception, pytest.skip.Exception):  # pytest imports it again, and reports that
            import_module(".".join(path.with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Mark asynchronous tests, so that anyio's plugin runs them and `-m anyio` selects them."""
    test = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    if inspect.iscoroutinefunction(test) and collector.istestfunction(obj, name):
        pytest.mark.anyio(obj)


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests out of each garbage collection that a test asks for: 0.1 s apiece."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let what pytest's plugins import at the end find its referrers."""
    gc.unfreeze()


_TERMINAL = frozenset(
    {"COLORTERM", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
)


@pytest.fixture(scope="session")
def anyio_backend(pytestconfig: pytest.Config) -> tuple[str, Mapping[str, Any]]:
    """The SDK runs on asyncio only, because aiohttp does."""
    return "asyncio", LOOPS[pytestconfig.getoption("--event-loop")]


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all tests' HOMEs."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, homes: Path) -> Path:
    """Hide the developer's own keys, proxies, terminal settings and config files; returns the empty HOME."""
    for name in list(os.environ):
        if (
            name.startswith("PRIME_")
            or name == "PRIMEPODS_MAX_HOURLY"
            or name.lower().endswith("_proxy")
            or name in _TERMINAL
        ):
            monkeypatch.delenv(name)
    # Options for this run are not meant for the pytest that a test starts.
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Not `mktemp`, which lists the thousands of folders that are there.
    home = Path(tempfile.mkdtemp(dir=homes))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    return home
