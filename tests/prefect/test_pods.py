"""The worker's parts on emulated pods, without a Prefect server."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import hypothesis
import hypothesis.strategies as st
import pytest

pytest.importorskip("prefect", reason="needs the extra `prefect`")

from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound
from pydantic import SecretStr

import primepods
from primepods import SSHTarget
from primepods.emulator import Emulator, Reset, Status
from primepods.prefect import PrimeCredentials, PrimePodJobConfiguration, PrimePodVariables, PrimePodWorker
from primepods.prefect._configuration import flow_run_id_of, pod_name
from primepods.prefect._pod_run import PodRun
from primepods.prefect._remote import Remote, make_script

from .server import LOCAL_SSH, eventually

pytestmark = [pytest.mark.anyio]

TARGET = SSHTarget("root", "198.18.0.9", 22)

Configure = Callable[..., PrimePodJobConfiguration]


@pytest.fixture
def boot_seconds() -> float:
    """Pods are ready at once, or after as long as a test says."""
    return 0.0


@pytest.fixture
def configure(emulator: Emulator) -> Configure:
    """Makes the configuration of a new flow run."""
    credentials = PrimeCredentials(api_key=SecretStr(emulator.api_key), base_url=emulator.url)

    def configure(**variables: Any) -> PrimePodJobConfiguration:
        defaults: dict[str, Any] = {
            "credentials": credentials,
            "ssh_command": LOCAL_SSH,
            "poll_interval": 0.05,
        }
        configuration = PrimePodJobConfiguration(**defaults | variables)
        configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="a-run"))
        return configuration

    return configure


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    """A pod to log in to."""
    known_hosts = str(tmp_path / "known_hosts")
    return Remote(target=TARGET, program=shlex.split(LOCAL_SSH), options=[], known_hosts=known_hosts)


async def wanted() -> bool:
    """Whether the run is still wanted."""
    return True


def pod_run(configuration: PrimePodJobConfiguration) -> PodRun:
    """A run that logs to the test's own log."""
    log = logging.LoggerAdapter(logging.getLogger("test"), {})
    return PodRun(flow_run_id=uuid4(), configuration=configuration, log=log)


def test_every_variable_of_the_pool_reaches_the_run() -> None:
    """Each has its place in the job template, and the same default and limits on both sides."""
    template = PrimePodWorker.get_default_base_job_template()
    assert set(template["job_configuration"]) == set(template["variables"]["properties"])
    for name, field in PrimePodVariables.model_fields.items():
        other = PrimePodJobConfiguration.model_fields[name]
        assert (field.get_default(call_default_factory=True), field.metadata, field.annotation) == (
            other.get_default(call_default_factory=True),
            other.metadata,
            other.annotation,
        )


@hypothesis.given(st.text(max_size=60) | st.none(), st.uuids())
def test_a_pods_name_leads_to_its_flow_run(beginning: str | None, flow_run_id: UUID) -> None:
    """Whatever it begins with; and no two attempts have the same."""
    name = pod_name(beginning, flow_run_id)
    assert flow_run_id_of(name) == flow_run_id
    assert name != pod_name(beginning, flow_run_id) or name != pod_name(beginning, flow_run_id)
    assert name.isascii()


@pytest.mark.parametrize("name", [None, "", "prefect", f"prefect-{uuid4().hex}", "a-b-c"])
def test_other_pods_are_nobodys(name: str | None) -> None:
    """A name that the worker has not made is no flow run's."""
    assert flow_run_id_of(name) is None


def test_a_block_shows_no_key() -> None:
    """Neither does a configuration that holds it."""
    block = PrimeCredentials(api_key=SecretStr("pk-very-secret-indeed"))
    configuration = PrimePodJobConfiguration(credentials=block)
    assert "pk-very" not in f"{block!r} {block} {configuration!r} {configuration.model_dump()}"


async def test_a_pod_is_the_cheapest_that_fits(configure: Configure) -> None:
    """With its own limit of the price; a specification with a cloud id is taken as it is."""
    configuration = configure(gpu_type="H100_80GB", spec={"disk_size": 200})
    async with configuration.get_client() as client:
        offer = await client.availability.cheapest(gpu_type="H100_80GB", gpu_count=1)
        spec = await configuration.pod_spec(client)
        assert (spec.cloud_id, spec.disk_size, spec.name) == (offer.cloud_id, 200, configuration.pod_name)
        assert spec.max_price is not None
        own = {"cloud_id": "mine", "gpu_type": "A100", "socket": "PCIe", "provider": "someone"}
        assert (await configure(gpu_count=2, spec=own).pod_spec(client)).gpu_count == 2
        with pytest.raises(primepods.SoldOutError, match=r"1 x H100_80GB, at most 0\.01 an hour"):
            await configure(gpu_type="H100_80GB", max_price=0.01).pod_spec(client)


async def test_a_command_runs_and_the_pod_goes(configure: Configure, emulator: Emulator) -> None:
    """The exit code is the command's, and no pod is left."""
    assert await pod_run(configure(command="exit 5")).execute(wanted) == 5
    assert len(emulator.requests.where(method="POST")) == 1
    assert not emulator.pods


async def test_sold_out_meanwhile(configure: Configure, emulator: Emulator) -> None:
    """Another offer is looked for, a few times."""
    sold = {"detail": "The requested machine is out of stock"}
    rule = emulator.faults.add(Status(400, body=sold), on="create", times=1)
    assert await pod_run(configure(command="true")).execute(wanted) == 0
    assert rule.hits == 1
    emulator.faults.add(Status(400, body=sold), on="create")
    with pytest.raises(primepods.SoldOutError):
        await pod_run(configure(command="true")).execute(wanted)
    assert len(emulator.requests.where(method="POST", status=400)) == 4
    assert not emulator.pods


@pytest.mark.parametrize("boot_seconds", [300.0])
async def test_a_stopped_run_leaves_no_pod(configure: Configure, emulator: Emulator) -> None:
    """It ends without an exit code when the pod has been seen gone, also if an answer is lost on the way."""
    run = pod_run(configure(command="true"))
    emulator.faults.add(Reset(acted=True), on="delete", times=1)
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            await eventually(lambda: bool(emulator.pods))
            run.stop()

        group.start_soon(stop)
        assert await run.execute(wanted) is None
    assert not emulator.pods
    assert emulator.requests[-1].path == "/api/v1/pods/"


async def test_a_run_that_nobody_wants_any_more(configure: Configure, emulator: Emulator) -> None:
    """Asked just before the command; it is not run."""

    async def unwanted() -> bool:
        return False

    run = pod_run(configure(command="touch ran"))
    assert await run.execute(unwanted) is None
    assert not run.is_running
    assert not emulator.pods


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"ssh_command": "sh -c 'echo no route; exit 255'", "login_timeout": 0.3}, "no route"),
        ({"max_hours": 0.5 / 3600, "command": "sleep 60"}, "max_hours"),
        ({"spec": {"colour": "red"}}, "colour"),
        ({"env": {"A B": "c"}}, "'A B'"),
    ],
)
async def test_what_goes_wrong_leaves_no_pod(
    configure: Configure, emulator: Emulator, variables: dict[str, Any], error: str
) -> None:
    """No login, no budget left, a specification or a variable that cannot be: the error says it."""
    with pytest.raises(Exception, match=error):
        await pod_run(configure(**variables)).execute(wanted)
    assert not emulator.pods


async def test_killing_infrastructure_deletes_by_name(configure: Configure, emulator: Emulator) -> None:
    """Pods of the name are seen gone, no others; and what is not there is not found."""
    configuration = configure()
    mine, other = emulator.add_pod(configuration.pod_name), emulator.add_pod("another")
    worker = PrimePodWorker(work_pool_name="pool")
    await worker.kill_infrastructure(f"{configuration.pod_name} somebody:7", configuration)
    assert mine not in emulator.pods
    assert other in emulator.pods
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure(configuration.pod_name, configuration)


async def test_unreadable_rows_of_others_are_passed_over(
    configure: Configure, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The pod is deleted all the same, and the log tells what could not be read."""
    configuration = configure()
    emulator.add_pod("another", pod_fields={"gpuCount": "many"})
    mine = emulator.add_pod(configuration.pod_name)
    await PrimePodWorker(work_pool_name="pool").kill_infrastructure(configuration.pod_name, configuration)
    assert mine not in emulator.pods
    assert "gpuCount" in caplog.text


@pytest.mark.parametrize("operation", ["list", "delete"])
async def test_what_cannot_be_killed_is_not_missing(
    configure: Configure, emulator: Emulator, operation: str
) -> None:
    """An error proves nothing: the pod may be billed."""
    configuration = configure()
    emulator.add_pod(configuration.pod_name)
    emulator.faults.add(Status(403), on=operation)
    with pytest.raises(InfrastructureNotAvailable, match="may be billed"):
        await PrimePodWorker(work_pool_name="pool").kill_infrastructure(configuration.pod_name, configuration)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_variables_come_as_they_are(value: str) -> None:
    """Any text, whatever it means to a shell."""
    code = "import os, sys; sys.stdout.buffer.write(os.environb[b'A'])"
    script = make_script(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", None, {"A": value})
    done = subprocess.run(["/bin/sh", "-s"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout == value.encode()


def test_a_script_that_was_cut_does_nothing(tmp_path: Path) -> None:
    """Wherever the connection is lost."""
    script = make_script("touch ran", "touch ran", {"A": "b\nc'"})
    for end in range(len(script) - len(" </dev/null\n")):
        subprocess.run(
            ["/bin/sh", "-s"], input=script[:end].encode(), cwd=tmp_path, capture_output=True, check=False
        )
    assert not list(tmp_path.iterdir())


async def test_secrets_are_in_no_list_of_processes(remote: Remote) -> None:
    """The command that others can see has none of the variables."""
    lines: list[str] = []
    script = make_script("tr '\\0' ' ' < /proc/$PPID/cmdline; ps -ef", None, {"TOKEN": "tok-secret"})
    assert await remote.run("exec sh -s", script=script, on_line=lines.append) == 0
    assert len(lines) > 2
    assert "tok-secret" not in "\n".join(lines)


async def test_output_comes_in_lines(remote: Remote) -> None:
    """Of progress bars and without an end, too; what is no text is replaced; no line is without bound."""
    lines: list[str] = []
    bar = r"printf '\033[2K10%%\r\033]0;title\007\033[1;31m20%%\033[0m\r\n\303\050 \xff end\n'"
    command = bar + r"; head -c 100000 /dev/zero | tr '\0' x; printf tail"
    assert await remote.run("exec sh -s", script=make_script(command, None, {}), on_line=lines.append) == 0
    assert lines[:2] == ["10%", "20%"]
    assert lines[2].endswith("end")
    assert lines[-1].endswith("tail")
    assert max(map(len, lines)) < 100_000


async def test_a_cancelled_login_ends_all_that_it_started(remote: Remote) -> None:
    """Also the children of `ssh`."""
    lines: list[str] = []
    script = make_script("sleep 1000.25 & echo $!; sleep 1000.5", None, {})
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: remote.run("exec sh -s", script=script, on_line=lines.append))
            await eventually(lambda: bool(lines))
            group.cancel_scope.cancel()
    stat = Path("/proc", lines[0], "stat")
    await eventually(lambda: not stat.exists() or stat.read_text().split()[2] == "Z")


def test_the_client_of_a_block_uses_its_key(emulator: Emulator) -> None:
    """And its address."""
    block = PrimeCredentials(api_key=SecretStr(emulator.api_key), base_url=emulator.url)

    async def look() -> int | None:
        async with block.get_client() as client:
            return (await client.pods.page()).total_count

    assert anyio.run(look) == 0
    assert isinstance(block.get_client(), primepods.AsyncClient)
