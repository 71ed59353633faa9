"""The budget of agents: what it counts, at each step at which a session may die, and among many processes."""

import itertools
import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primepods import BudgetExceededError, ConfigError
from primepods.runs import AgentBudget, Run, RunRecord
from tests.support.processes import start_python

LIMIT = 10.0
PRICE = 0.6


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of leases, runs and the budget."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def create_run() -> Run:
    """A run as a session starts it, whose lock this process holds."""
    return Run.create(
        RunRecord(
            client={},
            find={},
            changes={"name": "agent"},
            lease={},
            command="sleep 1",
            is_detached=True,
            began_at=time.time(),
        )
    )


@attrs.define
class Simulated:
    """A run, what it may cost, and what it has cost."""

    run: Run
    amount: float
    cost: float = 0.0
    is_billed: bool = False

    @property
    def lease(self) -> Path:
        """Its lease's file."""
        return self.run.path.parent.parent / f"{self.run.name}.json"

    def order(self) -> None:
        """Its process orders the pod."""
        self.lease.touch()
        self.run.save(lease_file=self.lease.name, pod_id="pod", leased_at=None)
        self.is_billed = True

    def end(self, share: float) -> None:
        """Its process ends, with the pod gone; a minute is counted more."""
        cost = share * max(0.0, self.amount - PRICE / 60)
        if self.is_billed:
            self.lease.unlink()
            self.run.save(spent=cost)
        self.run.end(0)
        self.die()
        self.is_billed, self.cost = False, cost if self.run.record.pod_id else 0.0

    def die(self) -> None:
        """Its process is killed."""
        self.run.unlock()

    def sweep(self) -> None:
        """Delete the pod of a process that has died, at the last moment."""
        if self.is_billed:
            self.lease.unlink()
            self.is_billed, self.cost = False, self.amount


STEPS = st.tuples(
    st.sampled_from(["reserve", "order", "end", "die", "sweep", "prune", "cut"]), st.floats(0, 1)
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(STEPS, max_size=20))
def test_what_is_counted_covers_what_is_billed(steps: list[tuple[str, float]]) -> None:
    """Whatever dies between two steps: bills are never above what is counted, nor that above the limit."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRIMEPODS_STATE_DIR", folder)
        budget = AgentBudget(LIMIT)
        live: list[Simulated] = []
        dead: list[Simulated] = []
        past = 0.0
        for kind, share in steps:
            if kind == "reserve":
                made = Simulated(create_run(), amount=share * 6)
                try:
                    budget.reserve(made.run.name, amount=made.amount, price_hr=PRICE)
                    live.append(made)
                except BudgetExceededError:
                    made.run.remove()
            elif kind == "cut":
                with budget.path.open("ab") as file:
                    file.write(b'\n{"version": 1, "run": "agent-'[: int(share * 30)])
            elif kind in {"sweep", "prune"} and dead:
                chosen = dead.pop(int(share * (len(dead) - 1)))
                chosen.sweep()
                past += chosen.cost
                if kind == "prune":
                    chosen.run.remove()
            elif live:
                chosen = live[int(share * (len(live) - 1))]
                if kind == "order" and not chosen.is_billed:
                    chosen.order()
                elif kind in {"end", "die"}:
                    live.remove(chosen)
                    dead.append(chosen)
                    chosen.end(share) if kind == "end" else chosen.die()
            balance = budget.settle()
            may_cost = past + sum(each.amount if each.is_billed else each.cost for each in [*live, *dead])
            assert may_cost <= balance.spent + balance.reserved + 1e-6
            assert balance.spent + balance.reserved <= LIMIT + 1e-6
            assert balance.left >= 0
        for each in [*live, *dead]:
            each.die()


def test_a_limit_is_an_amount() -> None:
    """NaN would be no limit, since nothing is above it."""
    for limits in ((math.nan, 1.0), (1.0, math.nan), (-1.0, 1.0)):
        with pytest.raises(ValueError, match="must be at least 0"):
            AgentBudget(limits[0], max_hourly=limits[1])


def test_a_reservation_is_replaced_by_the_cost(state: Path) -> None:
    """Once the pod is gone, with a minute more; what a killed session has not ordered costs nothing."""
    budget = AgentBudget(LIMIT)
    done, unused = Simulated(create_run(), amount=6.0), Simulated(create_run(), amount=4.0)
    for each in (done, unused):
        budget.reserve(each.run.name, amount=each.amount, price_hr=PRICE)
    with pytest.raises(
        BudgetExceededError, match=r"is \$10\.00, of which \$10\.00 is spent or reserved \(open runs: 2\)"
    ):
        budget.reserve("another", amount=0.5, price_hr=PRICE)
    done.order()
    unused.die()
    assert (budget.settle().reserved, budget.settle().spent) == (6.0, 0.0)
    done.lease.unlink()
    done.run.save(spent=1.5)
    done.run.end(0)
    assert budget.settle().reserved == 0.0
    assert budget.settle().spent == pytest.approx(1.51)
    assert Run.open(unused.run.path).state == "ended"  # so that nobody takes it over, and rents
    done.die()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_pod_that_may_run_stays_reserved(state: Path, *, is_killed: bool) -> None:
    """As long as its lease's file is there, and it can be taken over; after a sweep, as the worst."""
    budget = AgentBudget(LIMIT)
    made = Simulated(create_run(), amount=6.0)
    budget.reserve(made.run.name, amount=made.amount, price_hr=PRICE)
    made.order()
    if not is_killed:
        made.run.end(1)
    made.die()
    assert budget.settle().reserved == 6.0
    assert Run.open(made.run.path).state == ("interrupted" if is_killed else "ended")
    made.sweep()
    assert (budget.settle().reserved, budget.settle().spent) == (0.0, 6.0)


def test_limits_by_the_hour_and_in_a_window(state: Path) -> None:
    """All open pods together cost at most --max-hourly; what ended before the window no longer counts."""
    times = itertools.count(1000.0, 10.0)
    budget = AgentBudget(LIMIT, max_hourly=1.0, window=100.0, now=lambda: next(times))
    made = Simulated(create_run(), amount=9.0)
    budget.reserve(made.run.name, amount=made.amount, price_hr=PRICE)
    with pytest.raises(BudgetExceededError, match=r"up to \$0\.60 an hour.*--max-hourly"):
        budget.reserve(None, amount=0.1, price_hr=PRICE)
    made.order()
    made.die()
    made.sweep()
    for _ in range(20):
        next(times)
    assert budget.settle().spent == 9.0  # the window begins with the end, not with the reservation
    for _ in range(10):
        next(times)
    assert budget.settle().spent == 0.0


@pytest.mark.parametrize(
    "text",
    [b"odd", b'{"version": 2}', b"[]", b'{"version": 1, "run": "a", "amount": -1, "price_hr": 0, "at": 0}'],
)
def test_a_file_of_something_else_rents_nothing(state: Path, text: bytes) -> None:
    """A line that no session has written is an error, and the file stays as it is."""
    state.mkdir()
    (state / "budget.jsonl").write_bytes(text)
    with pytest.raises(ConfigError, match="move the file away"):
        AgentBudget(LIMIT).reserve("a", amount=1.0, price_hr=PRICE)
    assert (state / "budget.jsonl").read_bytes() == text


RESERVING = """
import sys
from primepods import BudgetExceededError
from primepods.runs import AgentBudget, Run, RunRecord
budget, made = AgentBudget(10.0), []
print("ready", flush=True)
sys.stdin.readline()
for number in range(2):
    record = RunRecord(client={}, find={}, changes={}, lease={}, command="x", is_detached=True, began_at=0.0)
    run = Run.create(record)
    try:
        budget.reserve(run.name, amount=1.5, price_hr=1.0)
    except BudgetExceededError:
        run.remove()
    else:
        made.append(run)
        print(run.name, flush=True)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_many_processes_share_one_budget(state: Path) -> None:
    """Twenty that reserve at once get as much as there is; what a killed one has reserved is free again."""
    processes = [start_python("-c", RESERVING, stdin=subprocess.PIPE) for _ in range(20)]
    said: list[str] = []
    try:
        for process in processes:
            assert process.line() == "ready"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            while (line := process.stdout.readline()) != "done\n":
                said.append(line.strip())
        assert len(said) == 6
        assert AgentBudget(10.0).settle().reserved == pytest.approx(9.0)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert AgentBudget(10.0).settle().left == 10.0
    lines = [json.loads(line) for line in (state / "budget.jsonl").read_text().splitlines() if line]
    assert sorted(line["run"] for line in lines if line["spent"] is None) == sorted(said)
