"""`primepods run`: the whole life of a pod in one line."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # nothing of it is used but a parser

from primepods.emulator import DeadGpu, Emulator, Status
from primepods.runs import short_size, shown_path
from tests.readme_blocks import ROOT, find_blocks
from tests.support.eventually import wait_for
from tests.support.processes import start_python

from .conftest import Run, in_terminal, name_api

LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
H100 = ["--gpu-type", "H100"]
OPTIONS = ["--gpu-type", "H100", "--ssh-command", LOCAL_SSH, "--interval", "0.1s"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder to work in; pods' homes and leases are the test's own."""
    for name in ("pods", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "pods"))
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An API without pods, whose pods are ready at once."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        name_api(emulator, monkeypatch)
        yield emulator


def test_the_whole_life_of_a_pod(market: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in the uploaded folder; its results are here, and the pod is gone."""
    monkeypatch.setenv("FROM_HERE", "1")
    Path("train.sh").write_text(
        "mkdir out; echo $FROM_HERE$GIVEN >out/result; echo said; exit 0", encoding="utf-8"
    )
    Path(".git").mkdir()
    words = [
        "--upload",
        ".:work",
        "--exclude",
        ".git",
        "--download",
        ".:all",
        "--download",
        "out/:results/",
        "--download",
        "train.sh:copy",
    ]
    given = ["-e", "FROM_HERE", "--env", "GIVEN=2", "--name", "job", "--max-hours", "1", "--max-price", "50"]
    result = run("run", *OPTIONS, *words, *given, "--", "sh", "train.sh")
    assert (result.exit_code, result.stdout) == (0, "said\n"), result.stderr
    assert Path("results/result").read_text(encoding="utf-8") == "12\n"
    assert Path("copy").exists()
    assert {path.name for path in Path("all").iterdir()} == {"train.sh", "out"}
    assert not market.pods
    for words_said in (
        r"Renting 1 x H100\S* at \w+ for \$[\d.]+ an hour",
        r"\n✓ Ready in \d+s · 1 x H100_80GB · \w+ · \$[\d.]+/h · [0-9a-f]{8}\n",
        r"To upload: \. \(1 file, \d+ bytes\)",
        r"Uploaded \. to work",
        r"Downloaded out/ to results/",
        r"\njob-\w{10}: exit code 0 after \d+s\. Results in all \(\d+ bytes\), results/ \(3 bytes\), copy \(",
        r"\)\. Cost about \$0\.\d+\. No pod is left\.\n$",
    ):
        assert re.search(words_said, result.stderr), (words_said, result.stderr)
    [order] = market.requests.where(method="POST", path="/api/v1/pods/")
    assert order.status == 200


def test_a_path_in_a_message_is_as_short_as_it_can_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Relative to the current folder, unless it is elsewhere."""
    monkeypatch.chdir(tmp_path)
    shown = [shown_path(str(tmp_path / "out")), shown_path("/out/"), shown_path("out/")]
    assert shown == ["out", "/out/", "out/"]


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_200, "1.2 kB"), (12_300, "12 kB"), (3.4e9, "3.4 GB")],
)
def test_a_size_has_a_unit_that_says_something(size: float, said: str) -> None:
    """Small copies are not 0.0 MB."""
    assert short_size(size) == said


def test_results_of_an_earlier_run_are_not_uploaded(market: Emulator, run: Run) -> None:
    """A folder that a download goes to is left out, at its place only, unless it is named."""
    for folder in ("out[1]", "in/out[1]"):
        Path(folder).mkdir(parents=True)
        Path(folder, "old").touch()
    words, named = ["--upload", ".:work", "--download", "out:out[1]/"], ["--upload", "out[1]:work/out"]
    command = ["--", "mkdir -p out; find . -name old"]
    result = run("run", *OPTIONS, *words, *command)
    assert (result.exit_code, result.stdout) == (0, "./in/out[1]/old\n"), result.stderr
    assert "Not uploaded: out[1], where a download goes" in result.stderr
    result = run("run", *OPTIONS, *words, *named, *command)
    assert sorted(result.stdout.split()) == ["./in/out[1]/old", "./out/old"], result.stderr
    assert "Not uploaded" not in result.stderr


def test_a_disk_is_where_the_command_is_told(market: Emulator, run: Run) -> None:
    """Its path is in a line, and in a variable by the disk's name."""
    run("disks", "create", "--size", "500", "--provider", "hyperstack", "--name", "my data", "--yes")
    words = ["--disk", "my data", "--", "mkdir -p $PRIMEPODS_DISK_MY_DATA; echo $PRIMEPODS_DISK_MY_DATA"]
    result = run("run", *OPTIONS[2:], "--gpu-type", "*", *words)
    assert result.exit_code == 0
    assert f"\nThe disk my data is at {result.stdout}" in result.stderr


def test_refusals_for_one_reason_are_one_line(
    market: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five offers above the limit per hour are told once, and at the end, and not as a limit of the run."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "0.1")
    result = run("run", *OPTIONS, "--", "true")
    assert (result.exit_code, len(market.pods)) == (5, 0)
    assert result.stderr.count("trying the next offer") == 1, result.stderr
    *_, reason, verdict = result.stderr.splitlines()
    assert "could exceed your limit of $0.10 an hour" in reason
    assert "was near" not in verdict, result.stderr


def test_a_run_in_a_terminal_has_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the pod boots and goes, it shows what is waited for, with the time; each phase leaves a line."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Emulator(boot_seconds=1, delete_seconds=0) as emulator:
        name_api(emulator, monkeypatch)
        code, shown = in_terminal(monkeypatch, "run", *OPTIONS, "--", "true")
    shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown)
    assert code == 0
    assert re.search(r" 0:00:0\d [0-9a-f]{8}: (PROVISIONING|ACTIVE, installing)", shown), shown
    assert re.search(r"Deleting the pod [0-9a-f]{8}, and waiting", shown)
    assert re.search(r"✓ Ready in \d+s · 1 x H100_80GB · \w+ · \$[\d.]+/h · [0-9a-f]{8}\n", shown)


@pytest.mark.slow
def test_a_failed_command_has_its_code_and_its_results(market: Emulator, run: Run) -> None:
    """What it left is fetched, too; what is not there is told."""
    words = ["--download", "log", "--download", "none:x", "--hold", "0s"]
    result = run("run", *OPTIONS, *words, "--", "echo why > log; echo oh >&2; exit 7")
    assert (result.exit_code, result.stdout) == (7, "")
    assert Path("log").read_text(encoding="utf-8") == "why\n"
    assert "oh\n" in result.stderr
    assert "none is not a file or folder" in result.stderr
    assert not market.pods
    assert run("run", *OPTIONS, "--hold", "0s", "--download", "none:x", "--", "true").exit_code == 1


@pytest.mark.slow
def test_a_result_that_leads_elsewhere_costs_no_other(market: Emulator, run: Run) -> None:
    """All else is here before the pod goes; the exit code and a line say that something is missing."""
    line = "mkdir -p out && cd out && echo 1 > model && ln -s $PWD/model latest && ln -s model near"
    result = run("run", *OPTIONS, "--download", "out", "--", line)
    assert result.exit_code == 1
    assert (
        "except links that point outside the folder, pipes and devices (1): 'latest' -> '/" in result.stderr
    )
    assert {path.name for path in Path("out").iterdir()} == {"model", "near"}
    assert not market.pods


@pytest.mark.slow
def test_the_next_offer_is_taken_where_one_is_sold_out(market: Emulator, run: Run) -> None:
    """The user is not asked."""
    sold = {"detail": "The requested machine is out of stock"}
    market.faults.add(Status(400, body=sold), on="create", times=1)
    Path("secrets.env").write_text("# of the tracker\nTOKEN=a\n", encoding="utf-8")
    result = run("run", *OPTIONS, "--env-file", "secrets.env", "--max-hours", "90m", "--", "echo done $TOKEN")
    assert (result.exit_code, result.stdout) == (0, "done a\n"), result.stderr
    assert re.search(r"run-\S+: sold out; trying the next offer \(\d left\)", result.stderr)
    assert "The pod is deleted at its limit at the latest (--max-hours 90m)" in result.stderr
    assert not market.pods


def test_pods_that_do_not_boot_are_told_as_deleted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its name, with the reason; the last line says that nothing is left, no line otherwise."""
    with Emulator(boot_seconds=0, delete_seconds=0, failure_rate=1.0) as emulator:
        name_api(emulator, monkeypatch)
        result = run("run", *OPTIONS, "--boot-timeout", "5m", "--", "true")
    assert result.exit_code == 4
    assert "without a limit" in result.stderr
    tries = re.findall(r"run-\S+: status ERROR: .*; trying the next offer \((\d) left\)", result.stderr)
    assert tries == ["4", "3", "2", "1"]
    assert result.stderr.endswith(" No pod is left.\n")
    assert "billed" not in result.stderr


@pytest.mark.slow
def test_a_fault_of_ssh_here_orders_nothing(market: Emulator, run: Run) -> None:
    """It is found before: no pod can be logged in to, and each would be waited for."""
    wrong = ["--ssh-option=-o", "--ssh-option=UserKnownHostsFile=/x/%Z"]
    result = run("run", "--gpu-type", "H100", *wrong, "--", "true")
    assert result.exit_code == 2
    assert "unknown key %Z" in result.stderr
    assert "Change --ssh-option" in result.stderr
    assert not market.requests.where(method="POST")


@pytest.mark.slow
@pytest.mark.parametrize("reconnect", ["1s", "1m"])
def test_a_lost_connection_is_told_and_the_command_goes_on(
    market: Emulator, run: Run, tmp_path: Path, reconnect: str
) -> None:
    """It is not run again. After --reconnect it is given up, and its results so far are fetched."""
    lossy = tmp_path / "lossy"
    # Once the job has been started, the first connection is cut, and some logins fail.
    lossy.write_text(
        f"#!/bin/sh\ncase \" $* \" in *' -G '*) exit 0;; esac\n"
        f"cd {tmp_path}; ls pods/*/*/.primepods/jobs/*/started >/dev/null 2>&1 && echo >>n && n=$(wc -l <n)\n"
        "case $n in 1) until [ -s runs ]; do sleep 0.05; done\n"
        f'{LOCAL_SSH} "$@" | dd bs=1 count=60 2>/dev/null;; 2 | 3) exit 255;;\n'
        f'*) exec {LOCAL_SSH} "$@";; esac\n',
        encoding="utf-8",
    )
    lossy.chmod(0o755)
    words = ["run", "--gpu-type", "H100", "--ssh-command", str(lossy), "--download", "log"]
    line = f"echo result > log; echo x >> {tmp_path}/runs; sleep 3; echo end"
    result = run(*words, "--reconnect", reconnect, "--", line)
    assert "Its command keeps running" in result.stderr
    assert (result.exit_code, result.stdout) == ((255, "") if reconnect == "1s" else (0, "end\n"))
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "x\n"
    assert Path("log").exists()
    assert not market.pods


def test_a_pod_that_is_kept_goes_on(market: Emulator, run: Run) -> None:
    """And it says how to get rid of it."""
    result = run("run", *OPTIONS, "--keep", "--", "true")
    [pod_id] = market.pods
    assert result.exit_code == 0
    assert f"primepods delete {pod_id}" in result.stderr
    assert "billed until you delete it (--keep)" in result.stderr
    assert "deleted" not in result.stderr


@pytest.mark.parametrize("limit", [pytest.param("2s", marks=pytest.mark.slow), "0.001s"])
def test_a_budget_ends_the_command(market: Emulator, run: Run, limit: str) -> None:
    """No pod is left, and the exit code says that it was not the command's own end; also before the order."""
    result = run("run", *OPTIONS, "--max-hours", limit, "--", "sleep 60")
    assert result.exit_code == 5
    assert f"--max-hours {limit}" in result.stderr
    assert "max_hours" not in result.stderr
    assert not market.pods


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--", "true"], "name the GPU"),
        (["--gpu-type", "H1OO", "--", "true"], "H100"),
        (["--gpu-type", "H100", "--max-price", "0.01", "--", "true"], "costs $"),
        (["--gpu-type", "H100", "--upload", "none", "--", "true"], "/none does not exist"),
        (["--gpu-type", "H100", "--download", "out/*:x", "--", "true"], "patterns are not expanded"),
        (["--gpu-type", "H100", "--env", "NONE", "--", "true"], "the variable is not set"),
        (["--gpu-type", "H100", "--max-hours", "0", "--", "true"], "--max-hours must be"),
        (["--gpu-type", "H100", "--", " "], "the command is empty"),
        (["--gpu-type", "H100", "--upload", "", "--", "true"], "--upload '' has no local path"),
        (["--gpu-type", "H100", "--download", "", "--", "true"], "has no path"),
        (["--gpu-type", "H100", "--exclude", "/", "--", "true"], "which is not a pattern"),
        (["--gpu-type", "H100", "--name", ".hidden", "--", "true"], "start with a letter"),
        (["--gpu-type", "H100", "--name", "a" * 35, "--", "true"], "at most 34 characters"),
        (
            ["--gpu-type", "H100", "--max-hours", "60s", "--wind-down", "2m", "--", "true"],
            "2m is not shorter than --max-hours 60s",
        ),
        (
            ["--gpu-type", "H100", "--max-hours", "1", "--hold", "3h", "--", "true"],
            "3h is not shorter than --max-hours 1h",
        ),
        (["--gpu-type", "H100", "--boot-timeout", "0s", "--", "true"], "ready_timeout"),
        (
            ["--gpu-type", "H100", "--download", "out:/dev/null/out", "--", "true"],
            "/dev/null/out cannot be created",
        ),
        *(
            ([*H100, *words, "--", "true"], says)
            for words, says in (
                (["--download", "out:file/"], "file/ is not a folder"),
                (["--download", "out:pipe"], "pipe is not a file or a folder"),
                (["--download", "out:pipe/"], "pipe is not a file or a folder"),
                (["--download", "out:/dev/null"], "/dev/null is not a file or a folder"),
                (["--download", "out:link"], "link is a link"),
                (["--download", "out:link/below"], "link is a link"),
                (["--download", "out:gone/below"], "gone/below cannot be created"),
                (["--download", "out:file/below"], "file/below cannot be created"),
                (["--download", "a:same", "--download", "b:./same"], "same is the target of two downloads"),
                (["--download", "a:x/a", "--download", "b/a:x/"], "x/a is the target of two downloads"),
                (["--upload", "pipe"], "pipe is not a file or a folder"),
                (["--upload", "/dev/null:x"], "/dev/null is not a file or a folder"),
                (["--name", ""], "name must be 1 to 64"),
                (["--interval", "0s"], "interval must be"),
                (["--max-spend", "inf"], "--max-spend must be"),
                (["--max-hours", "inf"], "'inf' cannot be used"),
                (["--max-price", "inf"], "--max-price must be"),
                (["--max-price", "nan"], "--max-price"),
                (["--ssh-command", ""], "ssh_command must be"),
                (["--ssh-command", "ssh '"], "ssh_command must be"),
                (["--file", "spend.toml"], "--max-spend must be"),
                (["--file", "hours.toml"], "inf"),
                (["--file", "price.toml"], "--max-price must be"),
                (["--file", "pipe"], "pipe cannot be read"),
            )
        ),
        ([*H100, "--file", "number.toml"], "a line or a list of words"),
        ([*H100, "--file", "words.toml"], "a line or a list of words"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_rented(
    market: Emulator, run: Run, words: list[str], says: str
) -> None:
    """In the words of a shell, and without any request unless the offers must be known."""
    os.mkfifo("pipe")
    Path("file").touch()
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    Path("gone").symlink_to("nowhere")
    for name, text in {
        "spend": "max-spend = inf",
        "hours": "max-hours = inf",
        "price": "max-price = inf",
        "number": "command = 7",
        "words": 'command = ["echo", 7]',
    }.items():
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    result = run("run", *words)
    assert result.exit_code in {1, 2}
    assert says in " ".join(result.stderr.replace("│", " ").split()), result.stderr
    assert not (market.requests.where(method="POST") if says in {"H100", "costs $"} else market.requests)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("when", ["running", pytest.param("booting", marks=pytest.mark.slow)])
def test_whatever_ends_it_gives_the_pod_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, code: int, when: str
) -> None:
    """And it says so; the command ends on the pod, too."""
    begun = tmp_path / "begun"
    line = f"trap 'rm {begun}; exit' TERM; touch {begun}; while :; do sleep 0.1; done"
    # It would not wait for longer than five seconds until the command has ended.
    patient = (
        "from primepods.cli import main; from primepods.runs import _work; _work._STOP_TIMEOUT = 50.0; main()"
    )
    with Emulator(boot_seconds=0 if when == "running" else 1_000, delete_seconds=0) as market:
        name_api(market, monkeypatch)
        with start_python("-c", patient, "run", *OPTIONS, "--", line) as process:
            wait_for(begun.exists if when == "running" else lambda: bool(market.pods))
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert err.endswith(" No pod is left.\n")
        assert ("Deleting the pod" in err) is (when == "running")
        # Told at once, and not only when the pod is gone.
        assert err.find("Interrupted: deleting") < err.find("No pod is left")
        assert ("Interrupted: deleting" in err) is (when == "booting")
        assert not market.pods
    wait_for(lambda: not begun.exists())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ended_by", "code", "is_stderr_stalled"),
    [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, True), (None, 5, True)],
    ids=["SIGTERM", "Ctrl-C", "max-hours"],
)
def test_a_reader_that_stalls_stops_no_deletion(
    market: Emulator, tmp_path: Path, ended_by: signal.Signals | None, code: int, *, is_stderr_stalled: bool
) -> None:
    """Nobody reads the output, or the messages: the pod is deleted, and the process ends."""
    hours = [] if ended_by else ["--max-hours", str(5 / 3600)]
    # Bounded, since the pod keeps all of it on this machine's disk.
    flood = "(yes | head -c 8000000 >&2) & yes | head -c 8000000; sleep 60"
    words = [sys.executable, "-m", "primepods", "run", *OPTIONS, *hours, "--", flood]
    reader, writer = os.pipe()
    with (tmp_path / "stderr").open("wb") as file:
        stderr = writer if is_stderr_stalled else file
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=stderr)
    try:
        # On a busy machine the budget may end it before the pipe is full.
        wait_for(lambda: not select.select([], [writer], [], 0)[1] or process.poll() is not None)
        if ended_by:
            process.send_signal(ended_by)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)
    assert not market.pods


def test_the_page_for_containers_shows_commands_that_there_are(run: Run) -> None:
    """Its manifests are YAML, and their options exist."""
    paper = (ROOT / ".github/CONTAINERS.md").read_text(encoding="utf-8")
    found: list[list[str]] = []
    for block in find_blocks(paper):
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.text))
        if block.language == "ini":
            assert re.match(r"(\[(Unit|Service|Timer|Install)\]\n(\w+=\S.*\n?)+\n?)+\Z", block.text)
        text = block.text.replace("[primepods,", "primepods ").replace(",", " ").replace("]", " ")
        found += [
            words.split()
            for words in re.findall(r"\bprimepods (run .*? --|sweep[^\n]*) ", " ".join(text.split()) + " ")
        ]
    assert len(found) >= 5
    for words in found:
        end = words.index("--") if "--" in words else None
        assert run(*(word.strip('"') for word in words[:end]), "--help").exit_code == 0, words


@pytest.mark.slow
def test_a_cluster_runs_it_on_all_nodes(market: Emulator, run: Run) -> None:
    """Each node has the upload and its rank, and lines say their node; results come from the first."""
    Path("name").write_text("file", encoding="utf-8")
    words = ["--gpu-count", "16", "--upload", ".:work", "--download", "out:.", "--max-hours", "1"]
    line = "echo $NODE_RANK $NNODES $(cat name) | tee out"
    result = run("run", *OPTIONS, *words, "--", line)
    assert (result.exit_code, sorted(result.stdout.splitlines())) == (0, ["0: 0 2 file", "1: 1 2 file"])
    assert "The command runs on 2 nodes" in result.stderr
    assert Path("out").read_text(encoding="utf-8") == "0 2 file\n"
    result = run("run", *OPTIONS, *words[:2], "--", "[ $NODE_RANK = 0 ] || exit 7; sleep 60")
    assert result.exit_code == 7
    assert "The command has failed on a node: ending it on the others" in result.stderr
    assert not market.pods
    detached = run("run", "--detach", *OPTIONS, *words, "--", f"{line}; printf end >&2")
    assert detached.exit_code == 0, detached.stderr
    result = run("attach", detached.stdout.strip())
    assert (result.exit_code, sorted(result.stdout.splitlines())) == (0, ["0: 0 2 file", "1: 1 2 file"])
    assert "0: end\n" in result.stderr
    assert "1: end\n" in result.stderr


def test_a_pod_with_a_dead_gpu_is_not_used(market: Emulator, run: Run) -> None:
    """The next offer is tried, unless --no-check is given; --check is a check of one's own."""
    known = [*OPTIONS[:2], "--ssh-command", f"{LOCAL_SSH} --emulator {market.url}", *OPTIONS[4:]]
    market.faults.add(DeadGpu(), on="create", times=2)
    result = run("run", *known, "--", "echo used")
    assert (result.exit_code, result.stdout) == (0, "used\n"), result.stderr
    assert result.stderr.count("its check failed: nvidia-smi exits with 15: Unable to") == 2
    market.faults.add(DeadGpu(), on="create")
    assert run("run", *known, "--no-check", "--", "true").exit_code == 0
    own = ["--check", "echo is $PRIMEPODS_GPU_COUNT >&2; exit 3"]
    result = run("run", *known, *own, "--", "echo used")
    assert (result.exit_code, result.stdout, "its check failed: is 1" in result.stderr) == (4, "", True)
    assert run("run", *known, *own, "--no-check", "--", "true").exit_code == 2


def test_gpus_that_cannot_be_checked_are_told_once(market: Emulator, run: Run) -> None:
    """An image without nvidia-smi is used."""
    result = run("run", *OPTIONS, "--", "echo used")
    assert (result.exit_code, result.stdout) == (0, "used\n"), result.stderr
    assert result.stderr.count("the GPUs are not checked, because the image has no nvidia-smi") == 1
