"""Importing the package, and the command's help, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from .bench import Bench, present
from .measure import Job, Row, Target, interleave, seconds
from .server import environment

_IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def startup(bench: Bench) -> Iterator[Row]:
    """The package against aiohttp, which it needs; the command against the official one."""
    jobs: dict[str, Job] = {name: _importing(name) for name in ("primepods", "aiohttp")}
    got = interleave(jobs, repetitions=3 * bench.repetitions)
    yield Row(
        key="import",
        what="`import primepods`",
        ours=got["primepods"],
        other=got["aiohttp"],
        against="`import aiohttp`",
        target=Target(1.25),
    )
    if not (present("typer") and present("prime_cli")):
        return
    jobs = {
        "ours": _running("from primepods.cli import main; main()"),
        "official": _running("from prime_cli.main import run; run()"),
    }
    got = interleave(jobs, repetitions=bench.repetitions)
    yield Row(
        key="help",
        what="`primepods --help`, the whole process",
        ours=got["ours"],
        other=got["official"],
        against="`prime --help`",
        target=Target(0.6),
    )


def _importing(module: str) -> Job:
    return lambda: float(_python(_IMPORT.format(module)))


def _running(code: str) -> Job:
    return lambda: seconds(lambda: _python(code, "--help"))


def _python(code: str, *arguments: str) -> str:
    environ = {**environment(), "PRIME_DISABLE_VERSION_CHECK": "1", "COLUMNS": "100"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    return done.stdout
