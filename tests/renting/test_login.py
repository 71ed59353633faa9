"""A lease with ``login=True``: handed over when ssh runs a command on the pod, else the next one."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Emulator
from tests.renting.stage import lease_files, spec_of, stage

pytestmark = pytest.mark.anyio


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
    async with (
        Emulator(boot_seconds=0, delete_seconds=0) as emulator,
        primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client,
    ):
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


@pytest.mark.slow
async def test_keys_that_two_pods_refuse_are_tried_on_no_third(folder: Path) -> None:
    """The error is that of the login, with the first as a note, and no pod is left."""
    denied = shlex.join(["sh", "-c", "echo 'root@host: Permission denied (publickey).' >&2; exit 255"])
    async with (
        Emulator(boot_seconds=0, delete_seconds=0) as emulator,
        primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client,
    ):
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
    async with (
        Emulator(boot_seconds=0, delete_seconds=0) as emulator,
        primepods.AsyncClient(emulator.api_key, base_url=emulator.url) as client,
    ):
        spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
        lease = client.pods.lease(
            [spec] * 3, login=True, login_timeout=0.2, ssh_command="false", interval=0.05
        )
        with pytest.raises(primepods.LoginError):
            await lease.__aenter__()
        assert sum(request.method == "POST" for request in emulator.requests) == 3


async def test_without_ssh_nothing_is_rented(folder: Path) -> None:
    """It is said before the order, and not when the pod has booted."""
    async with stage(folder) as it:
        with pytest.raises(primepods.ConfigError, match="install OpenSSH's client"):
            await it.client.pods.lease(it.spec, login=True, ssh_command="no-such-ssh -v").__aenter__()
        assert (it.orders(), it.records()) == (0, [])
