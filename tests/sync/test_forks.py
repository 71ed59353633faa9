"""After a fork the child has a loop and connections of its own, or a clear error; the parent goes on."""

import os
from collections.abc import Callable

import pytest

from tests.sync.conftest import Run
from tests.sync.harness import PODS, Api

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PRELUDE = """
import gc, os, sys, threading, time, traceback, warnings, primepods
# Python 3.12 and later warn of any fork in a process with threads.
warnings.filterwarnings("ignore", message=".*multi-threaded.*")
client = primepods.Client()
client.pods.get("p0")

def in_child(work, *, leave=os._exit):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            sys.stdout.flush()
        except Exception:
            traceback.print_exc()
            os._exit(1)
        leave(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status

def in_both_ways(work):
    in_child(work)
    in_child(work, leave=sys.exit)

"""


@pytest.fixture
def forked(run: Run, api: Api) -> Callable[[str], list[str]]:
    """Runs a script that forks; returns what it has printed. Some requests to `api` hang."""
    api.ids = [f"p{n}" for n in range(50)]
    # One pod, and every page but the first.
    api.hold = lambda r: r.path == f"{PODS}p1" or (r.path == PODS and "offset=0" not in r.target)
    return lambda source: run(PRELUDE + source).lines()


def test_child_and_parent_both_go_on(forked: Callable[[str], list[str]], api: Api) -> None:
    """The child uses the parent's client, in a loop of its own; the parent's connection is left alone."""
    lines = forked("""
changes = iter(client.pods.watch(["p0"], interval=0.05))
next(changes)

def work():
    print("child", client.pods.get("p0").id, client.pods.wait_ready("p0", interval=0.05).is_ready)
    print([thread.name for thread in threading.enumerate()])

for leave in (os._exit, sys.exit):
    in_child(work, leave=leave)
    print("parent", client.pods.get("p0").id)
client.close()

def closed():
    try:
        client.pods.get("p0")
    except primepods.ClientClosedError:
        print("closed")

in_child(closed)
""")
    assert lines == ["child p0 True", "['MainThread', 'primepods']", "parent p0"] * 2 + ["closed"]


@pytest.mark.slow
def test_a_child_does_not_disturb_the_parent(forked: Callable[[str], list[str]], api: Api) -> None:
    """Whatever it does with the client, and however it ends: quietly, and without touching the connection."""
    lines = forked("""
def refused():
    try:
        client.pods.get("")
    except ValueError:
        pass
    client.close()

def forget():
    del globals()["client"]
    gc.collect()

for work in (
    lambda: None,
    client.close,
    refused,
    lambda: (client.pods.get("p0"), client.close()),
    forget,
    lambda: (client.pods.get("p0"), forget()),
):
    in_both_ways(work)
    print(client.pods.get("p0").id)
""")
    assert lines == ["p0"] * 6
    # The parent's, and one for each child that has asked for something.
    assert api.connections == 1 + 4


@pytest.mark.slow
def test_a_fork_while_other_threads_are_in_calls(forked: Callable[[str], list[str]]) -> None:
    """The child does not wait for what only the parent's threads can end; the parent's calls go on."""
    lines = forked("""
results = []

def call(what):
    try:
        results.append(what())
    except primepods.PrimePodsError as error:
        results.append(type(error).__name__)

calls = [
    lambda: client.pods.get("p1"),
    lambda: client.pods.wait(["p0"], until=lambda status: False, interval=0.05),
    lambda: client.pods.wait(["p2"], until=lambda status: False, on_change=lambda change: None),
    lambda: list(client.pods.watch(["p0"], interval=0.05)),
]
threads = [threading.Thread(target=call, args=(what,)) for what in calls]
for thread in threads:
    thread.start()
time.sleep(0.3)

def work():
    print("child", client.pods.get("p0").id, client.pods.wait_ready("p0", interval=0.05).is_ready)
    client.close()

in_both_ways(work)
print("parent", client.pods.get("p0").id, results)
client.close()
for thread in threads:
    thread.join()
print(results)
""")
    assert lines == [*["child p0 True"] * 2, "parent p0 []", str(["ClientClosedError"] * 4)]


@pytest.mark.slow
def test_what_the_parent_iterates_does_not_go_on_in_the_child(forked: Callable[[str], list[str]]) -> None:
    """A clear error where the next page would be asked for; closing and forgetting are quiet."""
    lines = forked("""
pager, watch = client.pods.list(page_size=20), client.pods.watch(["p0"])
pages, items, changes = pager.pages(), iter(pager), iter(watch)
for iterator in (pages, items, changes):
    next(iterator)

def refused():
    for iterator in (pages, changes):
        try:
            next(iterator)
        except primepods.PrimePodsError as error:
            print(error)

def closed():
    client.pods.get("p0")
    with pager, watch:
        pass
    print("closed", next(pager.pages()).total_count)

def forgotten():
    global pages, items, changes, pager, watch
    del pages, items, changes, pager, watch
    gc.collect()
    print("forgotten", client.pods.get("p0").id)

for work in (refused, closed, forgotten):
    in_both_ways(work)
print("parent", client.pods.get("p0").id, next(items).id)
""")
    error = (
        "This iterator, wait or lease began in the parent process and cannot continue after the fork: "
        "start a new one."
    )
    assert lines == [error] * 4 + ["closed 50"] * 2 + ["forgotten p0"] * 2 + ["parent p0 p1"]


@pytest.mark.slow
def test_a_fork_in_on_change(forked: Callable[[str], list[str]]) -> None:
    """The child that returns into the parent's wait gets an error; the parent's wait goes on."""
    lines = forked("""
def on_change(change):
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        print("child", os.waitpid(pid, 0)[1])

try:
    print("parent", list(client.pods.wait(["p0"], on_change=on_change)))
except primepods.ClientClosedError:
    raise
except primepods.PrimePodsError as error:
    print(error, client.pods.get("p0").id, flush=True)
    os._exit(0)
""")
    error = (
        "This iterator, wait or lease began in the parent process and cannot continue after the fork: "
        "start a new one."
    )
    assert lines == [f"{error} p0", "child 0", "parent ['p0']"]


@pytest.mark.slow
def test_a_fork_while_a_client_starts(forked: Callable[[str], list[str]]) -> None:
    """A lock that the parent's thread held at that moment is not held in the child."""
    lines = forked("""
start = threading.Thread.start
other = primepods.Client()
starting, go_on = threading.Event(), threading.Event()

def slow(self):
    if self.name == "primepods" and threading.current_thread() is not threading.main_thread():
        starting.set()
        go_on.wait()
    start(self)

threading.Thread.start = slow
thread = threading.Thread(target=lambda: print("parent", other.pods.get("p0").id))
thread.start()
starting.wait()
in_child(lambda: print("child", other.pods.get("p0").id, client.pods.get("p0").id))
go_on.set()
thread.join()
""")
    assert lines == ["child p0 p0", "parent p0"]


@pytest.mark.slow
def test_forks_of_forks_and_pools_of_processes(forked: Callable[[str], list[str]]) -> None:
    """Each generation has its own loop; a global client serves the workers of multiprocessing, too."""
    lines = forked("""
import multiprocessing

def work(generation=1):
    print(generation, client.pods.get("p0").id)
    if generation < 3:
        in_child(lambda: work(generation + 1), leave=sys.exit)
        print("again", generation, client.pods.get("p0").id)

def fetch(pod_id):
    return client.pods.get(pod_id).id

in_child(work, leave=sys.exit)
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(pool.map(fetch, ["p0", "p2", "p3"] * 5, chunksize=1) == ["p0", "p2", "p3"] * 5)
print("parent", client.pods.get("p0").id)
""")
    assert lines == ["1 p0", "2 p0", "3 p0", "again 2 p0", "again 1 p0", "True", "parent p0"]
