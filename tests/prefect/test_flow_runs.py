"""Flow runs through a real server and real workers, on emulated pods."""

import logging
import signal
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import pytest
from anyio import to_thread

pytest.importorskip("prefect", reason="needs the extra `prefect`")

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from primepods._utils.clock import Clock
from primepods._utils.unique_names import expiry_of
from primepods.emulator import Emulator, SystemClock
from primepods.prefect import PrimeCredentials, PrimePodJobConfiguration, PrimePodWorker
from primepods.prefect._configuration import flow_run_id_of, new_pod_name_prefix
from primepods.prefect._pod_run import PodRun
from tests.support.client import make_client

from . import flows
from .server import HEARTBEAT, PrefectServer, Setting, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

CANCELLING = State[object](type=StateType.CANCELLING)
SLOW_BOOT = 300.0


class JumpingClock(SystemClock):
    """The time of the API's server, which a test can put forward."""

    ahead = 0.0

    def now(self) -> float:
        """Return seconds since it was made, and those that it was put forward."""
        return super().now() + self.ahead


class MachineClock(Clock):
    """The time of a machine, which goes on with the server's."""

    def __init__(self, server: JumpingClock) -> None:
        self._server = server

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return super().wall() + self._server.ahead


async def test_flow_runs_leave_no_pod(setting: Setting) -> None:
    """Each runs on a pod of its own, without the key; one completes, one fails, and no pod is left."""
    await setting.start_worker()
    good, bad = await setting.start("train"), await setting.start("fail")
    ended = await setting.ended(good, bad)
    assert [flow_run.state_name for flow_run in ended] == ["Completed", "Failed"]
    assert len(setting.emulator.requests.where(method="POST")) == 2
    for flow_run in ended:
        assert flow_run.infrastructure_pid is not None
        assert flow_run.id.hex in flow_run.infrastructure_pid
    log = await setting.log_has(good, "running in", "is gone")
    assert "with []" in log
    # What Prefect sends to the server by itself is not streamed a second time.
    assert log.count("running in") == 1
    await setting.log_has(bad, "no gradient today", "is gone")


async def test_exit_codes_and_output_reach_the_server(setting: Setting) -> None:
    """A command that fails crashes the run; what it prints is in the log."""
    await setting.start_worker()
    run = await setting.start("train", command="echo $GREETING; exit 7", env={"GREETING": "it's $5; `id`"})
    await setting.crashed(run, "status code 7")
    await setting.log_has(run, "it's $5; `id`", "exit code 7")


async def test_a_set_up_script_comes_first(setting: Setting) -> None:
    """What it exports is there for the command; if it fails, the command is not run."""
    await setting.start_worker()
    good = await setting.start("train", setup="export A=1\nB=2; export B", command='test "$A$B" = 12')
    bad = await setting.start("train", setup="false\ntrue", command="touch ran")
    await setting.log_has(good, "exit code 0")
    [ended] = await setting.ended(bad)
    assert ended.state_name == "Crashed"
    assert not list(setting.folder.glob("primepods-local-ssh*/*/ran"))


@pytest.mark.parametrize(
    ("flow", "boot_seconds", "state"),
    [("train", SLOW_BOOT, StateType.PENDING), ("sleep", 1.0, StateType.RUNNING)],
)
async def test_a_cancelled_run_leaves_no_pod(
    setting: Setting, flow: str, boot_seconds: float, state: StateType
) -> None:
    """While its pod boots, or while it runs: then Prefect on the pod ends the flow."""
    await setting.start_worker()
    run = await setting.start(flow)
    await setting.has_pod()
    await setting.reaches(run, state)
    await setting.client.set_flow_run_state(run, CANCELLING)
    [cancelled] = await setting.ended(run)
    assert cancelled.state_name == "Cancelled"


async def test_more_ended_runs_than_a_page_are_stopped(setting: Setting) -> None:
    """The server returns 200 at a time."""
    first = await setting.client.create_flow_run(flows.sleep, state=State(type=StateType.COMPLETED))
    runs = [first.id, *setting.server.copy_flow_run(first.id, 200)]
    assert len(await setting.client.read_flow_runs()) == 200
    worker = PrimePodWorker(work_pool_name=setting.pool)
    worker._client = setting.client
    log = logging.LoggerAdapter(logging.getLogger("test"), {})
    configuration = PrimePodJobConfiguration()
    for run in runs:
        worker._pod_runs[str(run)] = PodRun(flow_run_id=run, configuration=configuration, log=log)
    await worker._stop_cancelled_runs()
    # The server's services would look at them in the tests that follow.
    setting.server.delete_flow_runs(runs)
    assert all(pod_run.is_stopped for pod_run in worker._pod_runs.values())


async def test_a_deleted_flow_run_loses_its_pod_and_stops_no_heartbeats(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """The server has lacked it for five minutes; another run goes on. A warning comes once a minute."""
    run, deleted = (await setting.client.create_flow_run(flows.sleep)).id, uuid4()
    worker = PrimePodWorker(work_pool_name=setting.pool)
    worker.heartbeat_interval_seconds = 0.1  # type: ignore[assignment]  # Prefect's are whole
    worker._client = setting.client
    log = logging.LoggerAdapter(logging.getLogger("test"), {})
    kept, lost = (
        PodRun(flow_run_id=flow_run, configuration=PrimePodJobConfiguration(), log=log)
        for flow_run in (run, deleted)
    )

    async def pass_heartbeats() -> None:
        sent = worker._heartbeat_count
        await eventually(lambda: worker._heartbeat_count > sent + 6)

    caplog.set_level(logging.INFO)
    worker._logger = log  # Prefect's own does not propagate
    worker._pod_runs = {"kept": kept, "lost": lost}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._monitor_runs)
        await pass_heartbeats()
        assert caplog.text.count("Cannot read flow runs") == 1
        assert not lost.is_stopped
        lost.state_since -= 300
        kept.state_since -= 300
        await eventually(lambda: lost.is_stopped)
        assert "The flow run is no longer on the server: its pod is being deleted" in caplog.messages
        worker._pod_runs.clear()
    assert not kept.is_stopped
    assert (await setting.client.read_flow_run(run)).labels["primepods.heartbeat"]


@pytest.mark.parametrize("boot_seconds", [SLOW_BOOT])
async def test_a_worker_killed_while_provisioning(setting: Setting, boot_seconds: float) -> None:
    """The next worker deletes the pod by its name, and the flow runs on another."""
    first = await setting.start_worker("first", heartbeat=HEARTBEAT)
    run = await setting.start("train")
    pod_id = await setting.has_pod()
    before = (await setting.client.read_flow_run(run)).infrastructure_pid
    first.stop(signal.SIGKILL)
    await setting.start_worker("second", heartbeat=HEARTBEAT)
    await eventually(lambda: pod_id not in setting.emulator.pods)
    await eventually(lambda: len(setting.emulator.requests.where(method="POST")) == 2)
    # Deleted before the flow is run again: not two at a time.
    written = [request.method for request in setting.emulator.requests if request.method != "GET"]
    assert written == ["POST", "DELETE", "POST"]
    again = await setting.reaches(run, StateType.PENDING)
    assert again.infrastructure_pid != before
    await setting.client.set_flow_run_state(run, CANCELLING)
    await setting.ended(run)


STEPS = "echo begun | tee -a begun; until [ -e go ]; do sleep 0.1; done; echo all done; exit 3"
"""A command that notes each of its beginnings, and ends when a test says so."""


async def begun(setting: Setting, run: UUID) -> Path:
    """Return the home of the pod on which the command runs, once the flow run counts as running."""
    await eventually(lambda: bool(list(setting.folder.glob("primepods-local-ssh*/*/begun"))))
    await setting.log_has(run, "submitted to infrastructure", "begun")
    await setting.client.set_flow_run_state(run, State(type=StateType.RUNNING), force=True)
    [found] = setting.folder.glob("primepods-local-ssh*/*/begun")
    return found.parent


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_command_outlives_its_worker(setting: Setting, number: signal.Signals) -> None:
    """Killed, or asked to end as for an upgrade: the next worker continues, and reports the exit code."""
    first = await setting.start_worker("same", heartbeat=HEARTBEAT)
    run = await setting.start("train", command=STEPS)
    home = await begun(setting, run)
    before = (await setting.client.read_flow_run(run)).infrastructure_pid
    first.stop(number)
    assert len(setting.emulator.pods) == 1
    await setting.start_worker("same", heartbeat=HEARTBEAT)
    await setting.log_has(run, "with the command of an earlier worker")
    assert (home / "begun").read_text() == "begun\n"
    (home / "go").touch()
    crashed = await setting.crashed(run, "exit code 3")
    assert crashed.infrastructure_pid == before
    assert (await setting.log_has(run, "all done", "is gone")).count("all done") == 1
    assert len(setting.emulator.requests.where(method="POST")) == 1


async def test_a_worker_that_is_stopped_reports_its_runs(setting: Setting) -> None:
    """If its pod would have no limit, the run is Crashed before the worker has ended."""
    worker = await setting.start_worker()
    run = await setting.start("train", command=STEPS, max_hours=None)
    await begun(setting, run)
    worker.stop(signal.SIGTERM)
    assert not setting.emulator.pods
    assert (await setting.client.read_flow_run(run)).state_name == "Crashed"
    await setting.crashed(run, "Its worker was stopped. No pod is left.")


async def test_a_pod_whose_workers_are_all_dead_expires(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name says when, also with the default limit: any machine with the key deletes it after that."""
    clock = JumpingClock()
    with Emulator(boot_seconds=SLOW_BOOT, delete_seconds=0.5, clock=clock) as emulator:
        async with Setting(prefect_server, emulator, tmp_path) as setting:
            worker = await setting.start_worker()
            run = await setting.start("train")
            pod_id = await setting.has_pod()
            worker.stop(signal.SIGKILL)
            other = emulator.add_pod(new_pod_name_prefix("prefect", uuid4()))
        # Another machine, which has no file of the lease.
        monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "elsewhere"))
        machine = MachineClock(clock)
        async with make_client(emulator.url, api_key=emulator.api_key, clock=machine) as client:
            name = (await client.pods.get(pod_id)).name
            assert flow_run_id_of(name) == run
            hours = (expiry_of(name) or 0.0) / 3600 - clock.epoch.timestamp() / 3600
            assert hours == pytest.approx(24, abs=0.1)
            for jump, deleted in ((23.9, ()), (0.5, (pod_id,))):
                clock.ahead += jump * 3600
                assert (await client.pods.sweep(expired=True)).deleted == deleted
        assert set(emulator.pods) == {other}


async def test_the_server_is_away_while_the_flow_runs(setting: Setting) -> None:
    """The run goes on, and reports when the server is back."""
    worker = await setting.start_worker(PREFECT_CLIENT_MAX_RETRIES="2")
    command = "touch began; while ! test -e done; do sleep 0.1; done"
    run = await setting.start("train", command=command)
    await eventually(lambda: bool(list(setting.folder.glob("primepods-local-ssh*/*/began"))))
    await setting.log_has(run, "submitted to infrastructure")
    setting.server.stop()
    try:
        await eventually(lambda: "Cannot read flow runs" in worker.log.read_text(), worker)
        assert setting.emulator.pods
    finally:
        await to_thread.run_sync(setting.server.start)
    [began] = setting.folder.glob("primepods-local-ssh*/*/began")
    began.with_name("done").touch()
    await setting.log_has(run, "exit code 0")
    await eventually(lambda: not setting.emulator.pods)


async def test_pods_that_appear_late_are_deleted(setting: Setting) -> None:
    """A pod of a flow run that goes on with another one, or has ended; not one of a run that nobody knows."""
    await setting.start_worker(heartbeat=HEARTBEAT)
    run = await setting.start("train", command="exit 1")
    await setting.ended(run)
    late = setting.emulator.add_pod(new_pod_name_prefix("prefect", run))
    others = {setting.emulator.add_pod(name) for name in (new_pod_name_prefix("prefect", uuid4()), "mine")}
    await eventually(lambda: late not in setting.emulator.pods)
    assert others == set(setting.emulator.pods)


async def test_two_workers_leave_each_other_alone(setting: Setting) -> None:
    """A run that takes longer than ten heartbeats is not taken for abandoned by another worker."""
    await setting.start_worker("first", heartbeat=HEARTBEAT)
    run = await setting.start("train", command=f"sleep {14 * HEARTBEAT}")
    await setting.has_pod()
    await setting.start_worker("second", heartbeat=HEARTBEAT)
    await setting.log_has(run, "exit code 0", "is gone")
    assert len(setting.emulator.requests.where(method="POST")) == 1


@pytest.mark.parametrize("boot_seconds", [SLOW_BOOT])
async def test_a_worker_that_is_stopped_deletes_its_pods(setting: Setting, boot_seconds: float) -> None:
    """SIGTERM: each pod is gone before the worker is."""
    worker = await setting.start_worker()
    deployment = await setting.deploy("train")
    for _ in range(2):
        await setting.client.create_flow_run_from_deployment(deployment)
    await eventually(lambda: len(setting.emulator.pods) == 2)
    worker.stop(signal.SIGTERM)
    assert not setting.emulator.pods
    # They are scheduled again.
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    runs = await setting.client.read_flow_runs(flow_run_filter=wanted)
    assert {run.state_type for run in runs} == {StateType.SCHEDULED}


async def test_the_key_is_nowhere_in_clear(setting: Setting) -> None:
    """A key in a block is in no log, and in the database only as Prefect encrypts it."""
    with temporary_settings({PREFECT_API_URL: setting.server.url}):
        block = PrimeCredentials(api_key=SecretStr(setting.emulator.api_key), base_url=setting.emulator.url)
        await block.save(setting.pool)
        assert setting.emulator.api_key not in f"{block!r} {block}"
        document = str(block._block_document_id)
    reference = {"$ref": {"block_document_id": document}}
    await setting.start_worker(PRIME_API_KEY="", PRIME_API_BASE_URL="", PREFECT_LOGGING_LEVEL="DEBUG")
    run = await setting.start("train", credentials=reference, command="env")
    await setting.log_has(run, "exit code 0", "is gone")
    assert len(setting.emulator.requests.where(method="POST")) == 1
    key = setting.emulator.api_key
    assert key not in setting.logs + await setting.log_of(run)
    assert key.encode() not in setting.server.database
    assert "prime-credentials" in setting.server.database.decode(errors="replace")
