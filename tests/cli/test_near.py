"""`primepods forward`, `jupyter` and `code`: what runs on a pod, in programs of this machine."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from primepods.emulator import Emulator
from tests.support.eventually import wait_for
from tests.support.processes import Process, start_command, start_python

from .conftest import Run
from .test_run import LOCAL_SSH

JUPYTER = """\
import http.server, json, os, pathlib, sys
file = pathlib.Path.home() / "server.json"
if sys.argv[1:3] == ["server", "list"]:
    print("[" + (file.read_text() if file.exists() else "") + "]")
    sys.exit()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/lab?token=s3cr%2Ft" else 403)
        self.end_headers()
        self.wfile.write(b"a notebook")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
found = {"port": server.server_port, "base_url": "/", "token": "s3cr/t", "pid": os.getpid()}
pathlib.Path("draft").write_text(json.dumps(found))
pathlib.Path("draft").rename(file)
server.serve_forever()
"""
"""In the place of JupyterLab, which is too large to install: it lists and guards itself in the same way."""


@pytest.fixture(autouse=True)
def pods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pods' homes and state are the test's own."""
    (tmp_path / "pods").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "pods"))
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PRIMEPODS_SSH_COMMAND", LOCAL_SSH)
    return tmp_path / "pods"


@pytest.fixture
def bare(emulator: Emulator, run: Run, pods: Path) -> Path:
    """The home of a pod; behind the notebook that the API names there is nothing."""
    emulator.add_pod(id="bare", boot_seconds=0)
    run("exec", "bare", "--", "true")
    [home] = pods.glob("primepods-local-ssh-*/*")
    return home


def read(url: str) -> str:
    """The page at an address."""
    with urlopen(url, timeout=60) as response:
        return str(response.read().decode())


@contextmanager
def running(*words: str) -> Generator[tuple[str, Process]]:
    """A command that goes on after its first line, with that line; Ctrl-C ends it."""
    with start_command(*words) as process:
        try:
            line = process.line()
            if not line:
                raise AssertionError(process.stderr.read())
            yield line, process
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
            assert code == 0, process.stderr.read()


def install(home: Path, program: str) -> None:
    """Install a Python program in place of Jupyter for the pod's user."""
    folder = home / ".local" / "bin"
    folder.mkdir(parents=True)
    (folder / "jupyter").write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
    if " " in sys.executable:
        (folder / "jupyter.py").write_text(program, encoding="utf-8")
        words = shlex.join([sys.executable, str(folder / "jupyter.py")])
        (folder / "jupyter").write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    (folder / "jupyter").chmod(0o755)


@pytest.mark.slow
def test_a_notebook_that_is_started(bare: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address works, here and in a second call, which starts no other; no argument shows its token."""
    result = run("jupyter", "bare")
    assert (result.exit_code, "exec bare -- pip install jupyterlab" in result.stderr) == (1, True)
    install(bare, JUPYTER)
    opened = bare / "opened"
    (bare / "browser").write_text(BROWSER, encoding="utf-8")
    words = shlex.join([sys.executable, str(bare / "browser"), str(opened)])
    monkeypatch.setenv("BROWSER", f"{words} %s")
    try:
        with running("jupyter", "bare", "--open") as (url, _):
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/lab\?token=s3cr%2Ft", url)
            assert read(url) == "a notebook"
            with pytest.raises(HTTPError):
                read(url.partition("?")[0])
            wait_for(opened.exists)
            shown = json.loads(opened.read_text(encoding="utf-8"))
            assert "s3cr" not in shown["argument"]
            assert url in shown["page"]
            assert not any(b"s3cr" in line for line in command_lines())
            with running("jupyter", "bare") as (again, _):
                assert read(again) == "a notebook"
            # That of the first call ended at once.
        assert len(list((bare / ".primepods" / "jobs").iterdir())) == 2
    finally:
        os.kill(json.loads((bare / "server.json").read_text(encoding="utf-8"))["pid"], signal.SIGKILL)


BROWSER = """\
import json, os, sys, urllib.request
page = urllib.request.urlopen(sys.argv[2]).read().decode()
with open(sys.argv[1] + ".new", "w") as file:
    json.dump({"argument": sys.argv[2], "page": page}, file)
os.replace(sys.argv[1] + ".new", sys.argv[1])
"""


def command_lines() -> list[bytes]:
    """The arguments of all processes of this machine."""
    found: list[bytes] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes())
        except OSError:
            continue
    return found


def test_the_notebook_of_the_api(emulator: Emulator, run: Run) -> None:
    """Its address is printed, and nothing is sent to the pod."""
    emulator.add_pod(id="own", boot_seconds=0, pod_fields={"jupyterPassword": "s3cr3t", "ip": "192.0.2.7"})
    result = run("jupyter", "own")
    assert result.exit_code == 0
    assert re.fullmatch(r"http://192\.0\.2\.7:\d+\n", result.stdout)
    assert result.stderr == "Password: s3cr3t\n"


@pytest.mark.slow
def test_ports(bare: Path, run: Run) -> None:
    """Each has an address of its own; what is no port, or in use, is told."""
    install(bare, JUPYTER)
    assert run("exec", "bare", "--", "nohup .local/bin/jupyter lab >log 2>&1 &").exit_code == 0
    wait_for((bare / "server.json").exists)
    server = json.loads((bare / "server.json").read_text(encoding="utf-8"))
    port = server["port"]
    try:
        result = run("forward", "bare", str(port))
        assert (result.exit_code, "Choose another local port" in result.stderr) == (2, True)
        with running("forward", "bare", f"{port}:0", f"{port}:0") as (first, process):
            for url in (first, process.line()):
                assert read(f"{url}/lab?token=s3cr%2Ft") == "a notebook"
    finally:
        os.kill(server["pid"], signal.SIGKILL)
    for wrong in ("http", "1:2:3", "99999"):
        assert run("forward", "bare", wrong).exit_code == 2


@pytest.mark.slow
def test_a_second_interrupt_does_not_break_off_the_end(bare: Path) -> None:
    """The pod does not respond, so the end takes three seconds; nothing is left that Python warns about."""
    assert bare.exists()
    with start_python("-X", "dev", "-m", "primepods", "forward", "bare", "8888:0") as process:
        assert process.stdout.readline()
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        [ssh] = " ".join(file.read_text() for file in threads).split()
        os.killpg(int(ssh), signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        status = Path(f"/proc/{process.pid}/status")
        wait_for(lambda: is_ignored(signal.SIGINT, status.read_text()) or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "Warning" not in process.stderr.read()


def is_ignored(number: signal.Signals, status: str) -> bool:
    """Whether a process ignores a signal."""
    found = re.search(r"^SigIgn:\s+([0-9a-f]+)", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_an_editor(bare: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It gets the host that ssh knows and the folder's path; what is missing is told, with what to do."""
    result = run("code", "bare")
    assert (result.exit_code, "run `primepods ssh-config --install` first" in result.stderr) == (2, True)
    assert run("ssh-config", "--install").exit_code == 0
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run("code", "bare", "--editor", "cursor")
    assert (result.exit_code, "Install 'cursor' command" in result.stderr) == (1, True)
    (tmp_path / "code").write_text('#!/bin/sh\necho "$@"; env\n', encoding="utf-8")
    (tmp_path / "code").chmod(0o755)
    (bare / "my work").mkdir()
    words = [sys.executable, "-m", "primepods", "code", "bare", "my work"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    first, *environment = done.stdout.splitlines()
    host = re.fullmatch(rf"--remote ssh-remote\+(\S+) {re.escape(str(bare / 'my work'))}", first)
    assert host is not None
    own = Path.home() / ".ssh" / "primepods_config"
    assert f"Host {host[1]}" in own.read_text(encoding="utf-8")
    assert not [line for line in environment if "PRIME_API_KEY" in line]
    result = run("code", "bare", "none")
    assert result.exit_code == 1
