"""The worker's parts on emulated pods, without a Prefect server."""

import logging
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import hypothesis
import hypothesis.strategies as st
import pytest

pytest.importorskip("prefect", reason="needs the extra `prefect`")

from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import Flow, FlowRun, State, StateType, WorkPool
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound
from prefect.states import Completed, Pending
from pydantic import SecretStr

import primepods
from primepods._utils.unique_names import unique_name
from primepods.emulator import Emulator, Reset, Status
from primepods.prefect import PrimeCredentials, PrimePodJobConfiguration, PrimePodWorker
from primepods.prefect._configuration import flow_run_id_of, new_pod_name_prefix
from primepods.prefect._pod_run import SSH_FAILED, PodRun
from primepods.prefect._recovery import HEARTBEAT, Recovery
from primepods.prefect._worker import must_stop

from .server import LOCAL_SSH, eventually

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


async def wanted() -> bool:
    """Whether the run is still wanted."""
    return True


def pod_run(configuration: PrimePodJobConfiguration) -> PodRun:
    """A run that logs to the test's own log."""
    log = logging.LoggerAdapter(logging.getLogger("test"), {})
    return PodRun(flow_run_id=uuid4(), configuration=configuration, log=log)


def test_every_variable_of_the_pool_reaches_the_run() -> None:
    """Each has its place in the job template."""
    template = PrimePodWorker.get_default_base_job_template()
    assert set(template["job_configuration"]) == set(template["variables"]["properties"])


@hypothesis.given(st.text(max_size=60) | st.none(), st.uuids())
def test_a_pods_name_leads_to_its_flow_run(beginning: str | None, flow_run_id: UUID) -> None:
    """Whatever it begins with; and no two attempts have the same."""
    name = new_pod_name_prefix(beginning, flow_run_id)
    assert flow_run_id_of(name) == flow_run_id
    assert name != new_pod_name_prefix(beginning, flow_run_id) or name != new_pod_name_prefix(
        beginning, flow_run_id
    )
    assert name.isascii()


@pytest.mark.parametrize("name", [None, "", "prefect", f"prefect-{UUID(int=7).hex}", "a-b-c"])
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
        specs = await configuration.pod_specs(client)
        assert (specs[0].cloud_id, specs[0].disk_size) == (offer.cloud_id, 200)
        assert {spec.name for spec in specs} == {configuration.pod_name_prefix}
        assert all(spec.max_price for spec in specs)
        own = {"cloud_id": "mine", "gpu_type": "A100", "socket": "PCIe", "provider": "someone"}
        [spec] = await configure(gpu_count=2, spec=own).pod_specs(client)
        assert spec.gpu_count == 2
        with pytest.raises(primepods.SoldOutError, match=r"1 x H100_80GB, price at most 0\.01 an hour"):
            await configure(gpu_type="H100_80GB", max_price=0.01).pod_specs(client)


async def test_a_command_runs_and_the_pod_goes(configure: Configure, emulator: Emulator) -> None:
    """The exit code is the command's, and no pod is left."""
    assert await pod_run(configure(command="exit 5")).execute(wanted) == 5
    assert len(emulator.requests.where(method="POST")) == 1
    assert not emulator.pods


async def test_a_pod_that_cannot_be_taken_over(
    configure: Configure, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder of leases the run fails at once: only a lease of another process may become free."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "file"))
    run = pod_run(configure())
    emulator.add_pod(unique_name(run.configuration.pod_name_prefix))
    async with run.configuration.get_client() as client:
        [run.pod] = [pod async for pod in client.pods.list()]
    with anyio.fail_after(10), pytest.raises(primepods.ConfigError):
        await run.execute(wanted)


async def test_a_lost_command_ends_the_run(
    configure: Configure, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """With the exit code of ssh, as when the pod is restarted; no pod is left."""
    with caplog.at_level(logging.INFO, "test"):
        # The command's parent is what notes its exit code.
        assert await pod_run(configure(command="kill -9 $PPID; sleep 60")).execute(wanted) == SSH_FAILED
    assert "The pod may have failed." in caplog.text
    assert not emulator.pods


async def test_a_pod_that_refuses_the_login_is_replaced(
    configure: Configure, emulator: Emulator, tmp_path: Path
) -> None:
    """By a pod of the next offer."""
    first = tmp_path / "first"
    script = f"""
        for word; do case "$word" in *@*) host="$word" ;; esac; done
        test -e {first} || printf %s "$host" >{first}
        test "$host" != "$(cat {first})" || exit 255
        exec {LOCAL_SSH} "$@"
    """
    login = shlex.join(["sh", "-c", script, "ssh"])
    assert await pod_run(configure(command="true", ssh_command=login, login_timeout=10)).execute(wanted) == 0
    assert len(emulator.requests.where(method="POST")) == 2
    assert not emulator.pods


async def test_sold_out_meanwhile(configure: Configure, emulator: Emulator) -> None:
    """The next offer is taken, a few times."""
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
    """It ends without an exit code when the pod is confirmed gone, also if a response is lost."""
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
    assert not run.has_started
    assert not emulator.pods


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (StateType.CANCELLING, 60),
        # Prefect on the pod sets it, or a user, whose flow runs on.
        (StateType.CANCELLED, 60),
        # A command may save results when its flow has ended.
        (StateType.COMPLETED, 300),
        (StateType.FAILED, 300),
    ],
)
async def test_the_pod_of_an_ended_flow_has_a_limited_time(
    configure: Configure, state: StateType, seconds: float
) -> None:
    """After that it is deleted, even if its command still runs; at once if the flow has not begun."""
    fields = {"flow_id": uuid4(), "state_type": state, "start_time": datetime.now(UTC)}
    flow_run = FlowRun.model_validate(fields)
    run = pod_run(configure())
    assert must_stop(flow_run, run, 0)
    run.has_started = True
    assert [must_stop(flow_run, run, seconds + more) for more in (-1, 0)] == [False, True]
    # The server lacks it, or its flow goes on.
    assert [must_stop(None, run, seconds) for seconds in (299, 300)] == [False, True]
    flow_run.state_type = StateType.RUNNING
    assert not must_stop(flow_run, run, 10_000)


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"ssh_command": "sh -c 'echo no route >&2; exit 255'", "login_timeout": 0.3}, "no route"),
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
    """Pods of the name are confirmed gone, no others; and what is not there is not found."""
    configuration = configure()
    mine, other = emulator.add_pod(configuration.pod_name_prefix), emulator.add_pod("another")
    worker = PrimePodWorker(work_pool_name="pool")
    await worker.kill_infrastructure(configuration.pod_name_prefix, configuration)
    assert mine not in emulator.pods
    assert other in emulator.pods
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure(configuration.pod_name_prefix, configuration)


class RunsOnly:
    """As much of a Prefect server's client as the search for pods that were left behind needs."""

    def __init__(self, *flow_runs: FlowRun) -> None:
        self.flow_runs = flow_runs

    async def read_flow_runs(self, *, flow_run_filter: FlowRunFilter, **_: object) -> list[FlowRun]:
        """Return those that are asked for by their ids; none is active."""
        assert flow_run_filter.id is not None
        wanted_ids, read = flow_run_filter.id.any_ or (), flow_run_filter.id.not_any_ or ()
        return [run for run in self.flow_runs if run.id in wanted_ids and run.id not in read]


def worker_of(emulator: Emulator, server: RunsOnly, monkeypatch: pytest.MonkeyPatch) -> PrimePodWorker:
    """A worker with this account and this Prefect server."""
    template = PrimePodWorker.get_default_base_job_template()
    pool = {"name": "pool", "type": "prime-pod", "base_job_template": template}
    worker = PrimePodWorker(work_pool_name="pool")
    monkeypatch.setattr(worker, "_client", server)
    monkeypatch.setattr(worker, "_work_pool", WorkPool.model_validate(pool))
    monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
    monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
    return worker


async def test_pods_that_were_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be deleted keeps no other; a run's end counts from when it is seen, by one clock."""
    # The server's clock is an hour behind this machine's.
    ended: State[Any] = Completed(timestamp=datetime.now(UTC) - timedelta(hours=1))
    fields = {"flow_id": uuid4(), "state": ended, "state_id": ended.id}
    names = {run_id: new_pod_name_prefix("prefect", run_id) for run_id in (uuid4(), uuid4(), uuid4())}
    runs = [
        FlowRun.model_validate({**fields, "id": run_id, "infrastructure_pid": name})
        for run_id, name in names.items()
    ]
    now = 1000.0
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        recovery = Recovery(worker_of(emulator, RunsOnly(*runs), monkeypatch), "me", lambda: now)
        pods = [emulator.add_pod(name) for name in names.values()]
        emulator.faults.add(Status(403), on="delete", pod_id=pods[1])
        for seconds, left in ((0, pods), (299, pods), (1, [pods[1]])):
            now += seconds
            # One cleanup in ten reads the list of pods.
            for _ in range(10):
                await recovery.run()
            assert set(emulator.pods) == set(left)
    assert "Cleanup after killed workers failed" in caplog.text


class SilentRun(RunsOnly):
    """The same of a run that its worker has left, and of what it is when that is looked at again."""

    def __init__(self, flow_run: FlowRun, later: FlowRun) -> None:
        super().__init__(flow_run)
        self.later = later
        self.states: list[State[Any]] = []

    async def read_flow_runs(self, *, flow_run_filter: FlowRunFilter, **_: object) -> list[FlowRun]:
        """Return the active run once; of ended ones, none is asked for."""
        assert flow_run_filter.id is not None
        return [] if flow_run_filter.id.not_any_ else list(self.flow_runs)

    async def read_flow(self, _: UUID) -> Flow:
        """Return its flow."""
        return Flow(name="flow", labels={})

    async def read_flow_run(self, _: UUID) -> FlowRun:
        """Return the run as it is now."""
        return self.later

    async def set_flow_run_state(self, _: UUID, state: State[Any], **__: object) -> None:
        """Note its state."""
        self.states.append(state)


@pytest.mark.parametrize(("heartbeat", "changes"), [("", 1), ("another worker:1", 0)])
async def test_a_run_that_another_worker_has_continued_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, heartbeat: str, changes: int
) -> None:
    """While this worker has deleted the pod of the last one."""
    run_id = uuid4()
    name = new_pod_name_prefix("prefect", run_id)
    state: State[Any] = Pending()
    fields = {"id": run_id, "flow_id": uuid4(), "infrastructure_pid": name}
    fields |= {"state": state, "state_id": state.id, "state_type": state.type}
    run, later = (FlowRun.model_validate({**fields, "labels": {HEARTBEAT: text}}) for text in ("", heartbeat))
    server = SilentRun(run, later)
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        emulator.add_pod(name)
        await Recovery(worker_of(emulator, server, monkeypatch), "me").run()
        assert not emulator.pods
    assert len(server.states) == changes


async def test_unreadable_rows_of_others_are_passed_over(
    configure: Configure, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids and names decide: the pod is deleted even if nothing else of its row can be read."""
    configuration = configure()
    other = emulator.add_pod("another", pod_fields={"gpuCount": "many"})
    mine = emulator.add_pod(configuration.pod_name_prefix, pod_fields={"gpuCount": "many"})
    worker = PrimePodWorker(work_pool_name="pool")
    await worker.kill_infrastructure(configuration.pod_name_prefix, configuration)
    assert mine not in emulator.pods
    assert other in emulator.pods
    with pytest.raises(InfrastructureNotFound):
        await worker.kill_infrastructure(configuration.pod_name_prefix, configuration)


@pytest.mark.parametrize("operation", ["list", "delete"])
async def test_what_cannot_be_killed_is_not_missing(
    configure: Configure, emulator: Emulator, operation: str
) -> None:
    """An error proves nothing: the pod may be billed."""
    configuration = configure()
    emulator.add_pod(configuration.pod_name_prefix)
    emulator.faults.add(Status(403), on=operation)
    with pytest.raises(InfrastructureNotAvailable, match="may be billed"):
        await PrimePodWorker(work_pool_name="pool").kill_infrastructure(
            configuration.pod_name_prefix, configuration
        )


async def test_a_command_has_its_set_up_and_its_variables(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """What the set-up exports is there; the log has what both print."""
    setup = "export SET=up; echo red"
    configuration = configure(
        command='echo "$SET $GIVEN"', setup=setup, env={"GIVEN": "it's\ntwo", "NONE": None}
    )
    with caplog.at_level(logging.INFO, "test"):
        assert await pod_run(configuration).execute(wanted) == 0
    lines = caplog.messages
    assert [lines.index(line) for line in ("red", "up it's", "two")] == sorted(
        lines.index(line) for line in ("red", "up it's", "two")
    )


@pytest.mark.parametrize("setup", ["false; exit 3", "exit 0", "true; exit"])
async def test_a_set_up_that_fails_ends_the_run(configure: Configure, setup: str) -> None:
    """With a code that is not 0, even if the set-up itself exits with 0; the command is not run."""
    assert await pod_run(configure(command="exit 9", setup=setup)).execute(wanted) == 1


async def test_secrets_are_in_no_list_of_processes(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """The commands that others can see have none of the variables."""
    configuration = configure(command="ps -ef", env={"TOKEN": "tok-secret"})
    with caplog.at_level(logging.INFO, "test"):
        assert await pod_run(configuration).execute(wanted) == 0
    assert "ps -ef" in caplog.text
    assert "tok-secret" not in caplog.text
