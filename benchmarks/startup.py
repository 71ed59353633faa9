"""Time of importing the package and of the command's help, in new processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator

from .bench import Bench, is_installed
from .measure import Job, Row, Target, interleave, seconds
from .server import environment

_IMPORT = "import time; began = time.perf_counter(); import {0}; {0}.{1}; print(time.perf_counter() - began)"


def startup(bench: Bench) -> Iterator[Row]:
    """Measure the package against aiohttp, which it needs, and the command against the official one."""
    with tempfile.TemporaryDirectory() as compiled:
        # A writable cache of compiled modules; the first run fills it.
        environ = {**environment(), "PYTHONPYCACHEPREFIX": compiled}
        environ |= {"PRIME_DISABLE_VERSION_CHECK": "1", "COLUMNS": "100"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        yield from _startup(bench, environ)


def _startup(bench: Bench, environ: dict[str, str]) -> Iterator[Row]:
    # Use the imported name, so that lazy imports count, too.
    uses = {"primepods": "AsyncClient", "aiohttp": "ClientSession"}
    jobs = {module: _importing(environ, module, name) for module, name in uses.items()}
    got = interleave(jobs, repetitions=3 * bench.repetitions)
    yield Row(
        key="import",
        what="`import primepods`",
        ours=got["primepods"],
        other=got["aiohttp"],
        against="`import aiohttp`",
        target=Target(1.3),
    )
    if not (is_installed("typer") and is_installed("prime_cli")):
        return
    jobs = {
        "ours": _running(environ, "from primepods.cli import main; main()"),
        "official": _running(environ, "from prime_cli.main import run; run()"),
    }
    got = interleave(jobs, repetitions=bench.repetitions)
    yield Row(
        key="help",
        what="`primepods --help`, the whole process",
        ours=got["ours"],
        other=got["official"],
        against="`prime --help`",
        target=Target(0.5),
    )


def _importing(environ: dict[str, str], module: str, name: str) -> Job:
    return lambda: float(_python(environ, _IMPORT.format(module, name)))


def _running(environ: dict[str, str], code: str) -> Job:
    return lambda: seconds(lambda: _python(environ, code, "--help"))


def _python(environ: dict[str, str], code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout
