"""A lease with ``login=True``: handed over when ssh runs a command on the pod, else the next one."""

import shlex
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import DeadGpu
from tests.renting.stage import Stage, lease_files, spec_of
from tests.support.client import emulated

LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The homes of pods are the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.parametrize(
    "end", ["exit 255", pytest.param('sh -c "$line" </dev/null; exit 255', marks=pytest.mark.slow)]
)
async def test_a_pod_is_handed_over_when_it_can_be_logged_in_to(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """Not before; one that lets nobody in, or loses each connection after that, is given back.

    The next one is then tried; the log has each step.
    """
    caplog.set_level("INFO", logger="primepods")
    # Lets nobody in on the first pod that it hears of; on others it runs its last argument here.
    refused = shlex.quote(str(tmp_path / "refused"))
    find = "for line; do case $line in HostKeyAlias=*) pod=$line;; esac; done"
    refuse = f'[ -e {refused} ] || echo "$pod" >{refused}; [ "$pod" = "$(cat {refused})" ] && {{ {end}; }}'
    script = f'[ "$1" = -G ] && exit; {find}; {refuse}; exec sh -c "$line"'
    program = shlex.join(["sh", "-c", script, "ssh"])
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        specs = [attrs.evolve(spec, name=name) for name in ("first", "second")]
        lease = client.pods.lease(specs, login=True, login_timeout=5, ssh_command=program, interval=0.05)
        async with lease as pod:
            assert pod.name.startswith("second-")
            assert list(emulator.pods) == [pod.id]
        steps = ("is ready: ssh", "accepts the login", "is confirmed gone; it cost about $")
        told = [step for line in caplog.messages for step in steps if step in line]
        assert told == [steps[0], steps[2], *steps]
        lease = client.pods.lease(spec, login=True, login_timeout=0.3, ssh_command="false", interval=0.05)
        with pytest.raises(primepods.LoginError):
            await lease.__aenter__()
        assert (list(emulator.pods), lease_files(folder)) == ([], [])


async def test_ssh_itself_cannot_log_in_to_an_emulated_pod(folder: Path) -> None:
    """That is said before ssh is started, with what helps, and no other offer is tried."""
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        lease = client.pods.lease([spec] * 3, login=True, ssh_command="ssh", interval=0.05)
        with pytest.raises(primepods.ConfigError, match="PRIMEPODS_SSH_COMMAND='python -m"):
            await lease.__aenter__()
        orders = emulator.requests.where(method="POST")
        assert (len(orders), list(emulator.pods), lease_files(folder)) == (1, [], [])


@pytest.mark.slow
async def test_keys_that_two_pods_refuse_are_tried_on_no_third(folder: Path) -> None:
    """The error is that of the login, with the first as a note, and no pod is left."""
    denied = shlex.join(["sh", "-c", "echo 'root@host: Permission denied (publickey).' >&2; exit 255"])
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        lease = client.pods.lease(
            [spec] * 5, login=True, login_timeout=2.5, ssh_command=denied, interval=0.05
        )
        with pytest.raises(primepods.LoginError, match="Permission denied") as caught:
            await lease.__aenter__()
        assert "Permission denied" in caught.value.__notes__[0]
        assert sum(request.method == "POST" for request in emulator.requests) == 2
        assert (list(emulator.pods), lease_files(folder)) == ([], [])


async def test_logins_that_fail_otherwise_are_tried_on_each_spec(folder: Path) -> None:
    """Only keys that a pod refuses would be refused by the next one, too."""
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        lease = client.pods.lease(
            [spec] * 3, login=True, login_timeout=0.2, ssh_command="false", interval=0.05
        )
        with pytest.raises(primepods.LoginError):
            await lease.__aenter__()
        assert sum(request.method == "POST" for request in emulator.requests) == 3


async def test_without_ssh_nothing_is_rented(it: Stage) -> None:
    """It is said before the order, and not when the pod has booted."""
    with pytest.raises(primepods.ConfigError, match="install OpenSSH's client"):
        await it.client.pods.lease(it.spec, login=True, ssh_command="no-such-ssh -v").__aenter__()
    assert (it.orders(), it.records()) == (0, [])


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_a_pod_with_a_dead_gpu_is_passed_over(
    folder: Path, homes: None, caplog: pytest.LogCaptureFixture, is_cluster: bool
) -> None:
    """Its lease says which GPUs respond, deletes it, and rents the next one; all nodes are checked."""
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        market = client.availability.multi_node() if is_cluster else client.availability.gpus(gpu_count=8)
        offer = await anext(offer async for offer in market if offer.is_available)
        specs = [primepods.PodSpec.from_offer(offer, name=name) for name in ("first", "second")]
        emulator.faults.add(DeadGpu(), on="create", times=1)
        ssh = f"{LOCAL_SSH} --emulator {emulator.url}"
        lease = client.pods.lease(specs, check=primepods.GPU_CHECK, ssh_command=ssh, interval=0.05)
        async with lease as pod:
            assert pod.name.startswith("second-")
            gpus = await pod.run("nvidia-smi --query-gpu=name,memory.total --format=csv,noheader")
            assert gpus.stdout.count(f"NVIDIA {offer.gpu_type}, ") == (
                offer.gpu_count // len(pod.status.nodes)
            )
        assert "its check failed: nvidia-smi exits with 15: " in caplog.text
        assert (list(emulator.pods), lease_files(folder)) == ([], [])


@pytest.mark.parametrize(
    ("check", "timeout", "reason"),
    [
        ("echo twice; echo 'cannot use it' >&2; exit 3", 100.0, "its check failed: cannot use it"),
        ("echo 'on stdout'; exit 3", 100.0, "its check failed: on stdout"),
        (["sh", "-c", "exit 3"], 100.0, "its check failed: exit code 3"),
        ("sleep 60", 0.1, "its check failed: it did not end within 0.1 s"),
        ("[ -e once ] && exit 3; touch once; kill -9 $PPID", 2.0, "its check failed: exit code 3"),
    ],
)
async def test_a_check_that_fails_ends_the_boot(
    folder: Path, homes: None, check: str | list[str], timeout: float, reason: str
) -> None:
    """The error is that of a failed boot, in the words of the check, and no pod is left."""
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        lease = client.pods.lease(
            spec, check=check, check_timeout=timeout, ssh_command=LOCAL_SSH, interval=0.05
        )
        with pytest.raises(primepods.PodFailedError) as caught:
            await lease.__aenter__()
        assert caught.value.reason == reason
        assert caught.value.statuses == {caught.value.pod_id: caught.value.last}
        assert (list(emulator.pods), lease_files(folder)) == ([], [])


GPUS = "echo '0, 1, 0'; echo '1, 1, [N/A]'"


@pytest.mark.parametrize(
    ("count", "nvidia_smi", "code", "said"),
    [
        ("2", GPUS, 0, ""),
        ("1", GPUS, 0, ""),
        ("2", f"{GPUS}; echo 'WARNING: infoROM is corrupted, at gpu 0'; exit 14", 0, ""),
        ("0", "exit 9", 0, ""),
        ("2", "exit 127", 0, "the GPUs are not checked, because the image has no nvidia-smi"),
        ("3", GPUS, 1, "only 2 of 3 GPUs respond"),
        ("2", "echo 'GPU is'; echo lost; exit 15", 1, "nvidia-smi exits with 15: GPU is lost"),
        ("2", "echo '0, [Unknown Error], 0'", 1, "GPU 0 does not respond: [Unknown Error]"),
        ("2", "echo '0, 1, 0'; echo '1, 1, 20'", 1, "GPU 1 has uncorrectable memory errors: 20"),
    ],
)
def test_what_the_check_of_gpus_says(
    tmp_path: Path, count: str, nvidia_smi: str, code: int, said: str
) -> None:
    """It passes if each ordered GPU responds without an uncorrectable error, or cannot be asked."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{nvidia_smi}\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", primepods.GPU_CHECK],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PRIMEPODS_GPU_COUNT": count},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, said, "")
