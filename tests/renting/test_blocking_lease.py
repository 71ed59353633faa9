"""The same leases for threads that block; on real time, since that is what blocks them."""

import asyncio
import gc
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods._utils.clock import Clock
from primepods.emulator import Emulator
from primepods.sync._portal import Portal
from tests.remote.sshd import is_running
from tests.renting.stage import lease_files, spec_of
from tests.renting.test_processes import PRELUDE, leasing
from tests.support.client import make_client
from tests.sync.harness import eventually

LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"


class SuspendedClock(Clock):
    """The clock of a machine that can sleep for hours, which budgets count; waits end when it wakes up."""

    asleep = 0.0

    def boottime(self) -> float:
        """Return seconds that include those asleep."""
        return super().boottime() + self.asleep

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait in short pieces."""
        asleep, ends_at = self.asleep, self.time() + seconds
        while not event.is_set() and self.asleep == asleep and self.time() < ends_at:
            await super().wait(event, min(0.02, seconds))
        return event.is_set()


class Blocking:
    """An emulator in a thread of its own, a client, and what to order."""

    def __init__(self, emulator: Emulator, client: primepods.Client, folder: Path) -> None:
        self.emulator = emulator
        self.client = client
        self.folder = folder
        self.clock = SuspendedClock()
        wrapped = make_client(emulator.url, clock=self.clock, api_key=emulator.api_key)
        client._assemble(wrapped, Portal(wrapped.aclose), is_owner=True)
        self.spec = spec_of(client.request("GET", "/api/v1/availability/gpus"))

    def lease(self, **options: Any) -> primepods.Lease:
        """A lease that looks often."""
        return self.client.pods.lease(self.spec, interval=0.05, **options)

    def use_up_budgets(self) -> None:
        """Let the machine sleep for longer than all budgets, and wait until the pods are gone."""
        self.clock.asleep += 7_200
        eventually(lambda: not self.emulator.pods, "the pods are deleted")

    @property
    def left(self) -> tuple[int, int]:
        """How many pods are there, and how many files of leases."""
        return len(self.emulator.pods), len(list(lease_files(self.folder)))


@pytest.fixture
def it(folder: Path) -> Iterator[Blocking]:
    """See there."""
    with (
        Emulator(boot_seconds=0.05, delete_seconds=0.1) as emulator,
        primepods.Client(emulator.api_key, base_url=emulator.url) as client,
    ):
        yield Blocking(emulator, client, folder)


def test_a_pod_for_a_block(it: Blocking) -> None:
    """Ready in it, gone after it."""
    changes: list[primepods.PodChange] = []
    with it.client.pods.lease(it.spec, interval=0.05, on_change=changes.append) as pod:
        assert pod.status.is_ready
        assert it.left == (1, 1)
        assert pod.spent() > 0
    assert it.left == (0, 0)
    assert changes[-1].after == pod.status
    assert pod.final_cost(interval=0.05) >= 0


def in_thread(function: Callable[[], object]) -> list[BaseException]:
    """Call it in a thread of its own; returns what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(40)
    assert not thread.is_alive()
    return raised


def test_a_budget_deletes_the_pod_in_time_and_is_told_at_the_end(it: Blocking) -> None:
    """Nothing is raised in the midst of the block, whatever it does."""
    steps: list[str] = []

    def use() -> None:
        with it.lease(max_hours=1):
            it.use_up_budgets()
            steps.append("went on")

    (error,) = in_thread(use)
    assert isinstance(error, primepods.BudgetExceededError)
    assert (error.budget, steps) == ("hours", ["went on"])
    assert it.left == (0, 0)


def test_a_budget_ends_what_runs_on_the_pod(
    it: Blocking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends there, too, and a forward, and the block with its error; what follows is not begun."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    errors: list[BaseException] = []
    lines: list[str] = []

    def note(line: primepods.OutputLine) -> None:
        lines.append(line.text)
        it.clock.asleep += 7_200

    def run_and_wait(pod: primepods.LeasedPod) -> None:
        with pod.forward(80) as forward:
            try:
                pod.run("echo $$; exec sleep 300", on_line=note)
            except primepods.BudgetExceededError as exc:
                errors.append(exc)
            forward.wait()

    def work(pod: primepods.LeasedPod) -> None:
        with pytest.raises(primepods.BudgetExceededError):
            run_and_wait(pod)
        with pytest.raises(primepods.BudgetExceededError):
            pod.upload(__file__, "again")

    def use() -> None:
        with it.lease(ssh_command=LOCAL_SSH, max_hours=1) as pod:
            work(pod)

    (error,) = in_thread(use)
    assert errors == [error]
    assert isinstance(error, primepods.BudgetExceededError)
    assert it.left == (0, 0)
    eventually(lambda: not is_running(int(lines[0])), "the command ends")


def test_a_block_winds_down_before_its_limit(
    it: Blocking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call on the pod ends, or the next one, but no download; all later ones go through until the limit."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    steps: list[str] = []

    def winds_down(line: primepods.OutputLine) -> None:
        steps.append(line.text)
        it.clock.asleep += 3_570

    def save(pod: primepods.LeasedPod) -> None:
        pod.download("result", tmp_path / "result")
        with pytest.raises(primepods.CommandError):
            pod.run("exit 3")
        it.use_up_budgets()
        with pytest.raises(primepods.BudgetExceededError):
            pod.run("true")

    def use(*, is_called: bool) -> None:
        with it.lease(ssh_command=LOCAL_SSH, max_hours=1) as pod:
            pod.run("echo > result")
            try:
                if is_called:
                    pod.run("echo begun; exec sleep 300", on_line=winds_down)
                else:
                    it.clock.asleep += 3_570
                    eventually(lambda: pod._supervisor.budget_error is not None, "the wind-down begins")
                    pod.download("result", tmp_path / "first")
                    pod.run("false")
            except primepods.BudgetExceededError as exc:
                assert it.left == (1, 1)
                steps.append(str(exc))
                save(pod)
                raise

    for is_called in (True, False):
        steps.clear()
        (error,) = in_thread(partial(use, is_called=is_called))
        assert isinstance(error, primepods.BudgetExceededError)
        assert steps == ["begun"] * is_called + [str(error)]
        assert it.left == (0, 0)


def test_nothing_is_sent_to_a_pod_after_its_block(it: Blocking, tmp_path: Path) -> None:
    """Another customer's machine may have its address by then; a pod that is kept stays the caller's."""
    used = tmp_path / "used"
    with it.lease(ssh_command=shlex.join(["touch", str(used)]), login_timeout=0.01) as pod:
        pass
    with pytest.raises(primepods.PrimePodsError, match="its lease has ended"):
        pod.run("true")
    with pytest.raises(primepods.PrimePodsError, match="its lease has ended"):
        pod.download("out", tmp_path)
    assert not used.exists()
    with it.lease(ssh_command=LOCAL_SSH) as pod:
        pod.keep()
    assert pod.run("echo here").stdout == "here\n"


def test_each_of_two_blocks_is_told_of_its_own_budget(it: Blocking) -> None:
    """The inner one's error is a reason for the outer one to end."""

    def use() -> None:
        with it.lease(max_hours=1), it.lease(max_hours=1):
            it.use_up_budgets()

    (error,) = in_thread(use)
    assert isinstance(error, primepods.BudgetExceededError)
    (note,) = error.__notes__
    assert error.pod_id not in note
    assert it.left == (0, 0)


def test_close_releases_while_other_threads_lease(it: Blocking) -> None:
    """Another client's lease begins at each of its first steps."""
    ended = threading.Event()

    def lease(client: primepods.Client) -> None:
        with client.pods.lease(it.spec, interval=0.05):
            ended.wait(60)

    def orders() -> int:
        return len(it.emulator.requests.where(method="POST"))

    def lease_elsewhere(_: object, event: str, __: object) -> None:
        before = orders()
        if event == "call" and before < 8:
            sys.setprofile(None)
            pool.submit(lease, other)
            while orders() == before:
                time.sleep(0.001)
            sys.setprofile(lease_elsewhere)

    with (
        primepods.Client(it.emulator.api_key, base_url=it.emulator.url) as other,
        ThreadPoolExecutor(8) as pool,
        it.lease(),
    ):
        sys.setprofile(lease_elsewhere)
        try:
            it.client.close()
        finally:
            sys.setprofile(None)
            ended.set()
    assert it.left == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("is_own", [True, False])
def test_a_generator_that_is_garbage_releases_its_pod(it: Blocking, *, is_own: bool) -> None:
    """Also if it is collected in the thread of a client's loop, where nothing can wait."""

    def leased() -> Iterator[primepods.LeasedPod]:
        with it.lease() as pod:
            yield pod

    def collect(_: object) -> bool:
        gc.collect()
        return True

    looked_at = it.emulator.add_pod("other", boot_seconds=0)
    gc.disable()
    try:
        cycle: list[object] = [generator := leased()]
        cycle.append(cycle)
        next(generator)
        del cycle, generator
        with primepods.Client(it.emulator.api_key, base_url=it.emulator.url) as other:
            (it.client if is_own else other).pods.wait([looked_at], until=collect)
    finally:
        gc.enable()
    eventually(lambda: it.left == (1, 0), "the pod is released")


ENDINGS = {
    "exit in another thread": """
        def use():
            with client.pods.lease(spec, interval=0.05):
                print("ready", flush=True)
                time.sleep(60)

        threading.Thread(target=use, daemon=True).start()
        input()
        """,
    "never left": """
        lease = client.pods.lease(spec, interval=0.05)
        lease.__enter__()
        print("ready", flush=True)
        input()
        """,
    "a SIGTERM handler that exits": """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with client.pods.lease(spec, interval=0.05):
            print("ready", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        """,
    "a signal handler that raises while the pod is released": """
        class Alarm(Exception):
            pass

        def ring(*_):
            raise Alarm

        signal.signal(signal.SIGALRM, ring)
        try:
            with client.pods.lease(spec, interval=0.05):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                time.sleep(0.05)
        except Alarm:
            print("ready", flush=True)
            input()
        """,
    "an async child of a fork that exits in the block": """
        async def main():
            client, child = primepods.AsyncClient(), None
            try:
                async with client.pods.lease(spec, interval=0.05) as pod:
                    child = os.fork()
                    if child == 0:
                        raise ZeroDivisionError
                    os.waitpid(child, 0)
                    assert (await client.pods.get(pod.id)).status == "ACTIVE"
                    print("ready", flush=True)
                    input()
            except ZeroDivisionError:
                # More would change the parent's selector, which asyncio shares with its child.
                os._exit(0)
            await client.aclose()

        asyncio.run(main())
        """,
    "a child of a fork that exits in the block": """
        with client.pods.lease(spec, interval=0.05) as pod:
            child = os.fork()
            if child == 0:
                sys.exit(0)
            os.waitpid(child, 0)
            assert client.pods.get(pod.id).status == "ACTIVE"
            print("ready", flush=True)
            input()
        """,
}


@pytest.mark.parametrize(
    "ending",
    [pytest.param(ending, marks=() if ending == "never left" else pytest.mark.slow) for ending in ENDINGS],
)
def test_the_end_of_a_process_releases_its_leases(folder: Path, ending: str) -> None:
    """Before the interpreter is gone; and a forked child leaves its parent's alone."""
    source = PRELUDE + ENDINGS[ending]
    with leasing(folder, source, boot_seconds=0, delete_seconds=0.2) as (emulator, running):
        assert running.line() == "ready"
        _, errors = running.communicate("\n", timeout=100)
        assert (len(emulator.pods), list(lease_files(folder))) == (0, []), errors
        assert "Traceback" not in errors


def test_a_pool_works_in_threads(it: Blocking) -> None:
    """Results, failures and the setup as in the async pool; pods are used again, and none is left."""
    set_up: list[str] = []

    def work(pod: primepods.LeasedPod, item: int) -> tuple[str, int]:
        return pod.name, 6 // item

    def setup(pod: primepods.LeasedPod) -> None:
        set_up.append(pod.name)

    seen: list[primepods.PoolProgress] = []
    threads = set[int]()

    def note(progress: primepods.PoolProgress) -> None:
        seen.append(progress)
        threads.add(threading.get_ident())

    with it.client.pods.pool(it.spec, size=2, setup=setup, on_progress=note, interval=0.05) as pool:
        results = {result.item: result for result in pool.map(work, range(6))}
        with pool.pod() as pod:
            assert pod.name in set_up
        assert 1 <= pool.pods <= 2
        assert pool.spent() > 0
    assert isinstance(results[0].error, ZeroDivisionError)
    assert [results[item].get()[1] for item in range(1, 6)] == [6, 3, 2, 1, 1]
    assert {result.pod_name for result in results.values()} <= set(set_up)
    # The block of `pool.pod` counts as an item.
    assert (seen[-1].done, seen[-1].failed, seen[-1].running, seen[-1].pods) == (6, 1, 0, 0)
    assert len(threads) == 1
    assert it.left == (0, 0)


def test_the_end_of_a_pool_ends_calls_on_its_pods(it: Blocking, tmp_path: Path) -> None:
    """A command that would run for a minute ends with the block, and its thread gets an error."""
    errors: list[BaseException] = []
    pid = tmp_path / "pid"

    def work(pod: primepods.LeasedPod, _: int) -> None:
        try:
            pod.run(f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60")
        except primepods.PrimePodsError as error:
            errors.append(error)

    def read() -> None:
        with pytest.raises(primepods.ClientClosedError, match="pool has ended"):
            next(pool.map(work, [1]))

    with it.client.pods.pool(it.spec, size=1, interval=0.05, ssh_command=LOCAL_SSH) as pool:
        in_background = threading.Thread(target=read)
        in_background.start()
        eventually(pid.exists, "the command runs")
    in_background.join(40)
    eventually(lambda: bool(errors), "the call has ended")
    eventually(lambda: not is_running(int(pid.read_text())), "the command has ended")
    assert it.left == (0, 0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_of_a_pools_thread_ends_nothing_else(it: Blocking, error: BaseException) -> None:
    """It is its item's result, or that of the setup; another lease of the client goes on."""

    def leave(_: primepods.LeasedPod, *__: int) -> None:
        raise error

    pods = it.client.pods
    with it.lease() as held, pods.pool(it.spec, interval=0.05) as pool:
        [result] = pool.map(leave, [1])
        assert isinstance(result.error, RuntimeError)
        with pods.pool(it.spec, setup=leave, interval=0.05) as failing, pytest.raises(RuntimeError):
            next(failing.map(leave, [1]))
        assert pods.get(held).is_ready
    assert it.left == (0, 0)
