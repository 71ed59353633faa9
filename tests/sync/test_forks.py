"""After a fork the child has a loop and connections of its own, or a clear error; the parent goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.server import Received
from tests.sync.harness import PODS, STATUS, Api, Script, serving

Start = Callable[..., Script]

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

"""

HELD = f"{PODS}p1"


def held(request: Received) -> bool:
    """One pod, and every page but the first, are never answered."""
    return request.path == HELD or (request.path == PODS and "offset=0" not in request.target)


def test_child_and_parent_both_go_on(script: Start, api: Api) -> None:
    """The child uses the parent's client, in a loop of its own; the parent's connection is left alone."""
    source = """
def work():
    print("child", client.pods.get("p0").id, len(list(client.pods.list())), len(client.pods.statuses(["p0"])))
    print([thread.name for thread in threading.enumerate()])

for leave in (os._exit, sys.exit):
    in_child(work, leave=leave)
    print("parent", client.pods.get("p0").id)
client.close()
"""
    lines = script(PRELUDE + source, api.url).end().quiet().lines
    assert lines == ["child p0 3 1", "['MainThread', 'primepods']", "parent p0"] * 2
    assert api.server.connections == 3


@pytest.mark.parametrize(
    "work",
    [
        pytest.param("pass", id="nothing"),
        pytest.param("client.close()", id="close"),
        pytest.param("refused()", id="a call that is refused, and close"),
        pytest.param("client.pods.get('p0'); client.close()", id="a call and close"),
        pytest.param("del globals()['client']; gc.collect()", id="forget"),
        pytest.param("client.pods.get('p0'); del globals()['client']; gc.collect()", id="a call and forget"),
    ],
)
def test_a_child_does_not_disturb_the_parent(script: Start, api: Api, work: str) -> None:
    """Whatever it does with the client, and however it ends: quietly, and without touching the connection."""
    source = f"""
def refused():
    try:
        client.pods.get("")
    except ValueError:
        pass
    client.close()

def work():
    {work}

for leave in (os._exit, sys.exit):
    in_child(work, leave=leave)
    began = time.monotonic()
    print("parent", client.pods.get("p0").id, len(list(client.pods.list())), time.monotonic() - began < 2)
"""
    lines = script(PRELUDE + source, api.url).end().quiet().lines
    assert lines == ["parent p0 3 True"] * 2


def test_a_fork_while_another_thread_is_in_calls(script: Start) -> None:
    """The child does not wait for what only the parent's thread can end; the parent's calls go on."""
    with serving(Api(hold=held)) as api:
        source = """
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
time.sleep(0.5)

def work():
    print("child", client.pods.get("p0").id, client.pods.wait_ready("p0", interval=0.05).is_ready)
    client.close()

for _ in range(3):
    in_child(work)
    in_child(work, leave=sys.exit)
print("parent", client.pods.get("p0").id, results)
client.close()
for thread in threads:
    thread.join()
print(results)
"""
        lines = script(PRELUDE + source, api.url).end().quiet().lines
        assert lines == [*["child p0 True"] * 6, "parent p0 []", str(["ClientClosedError"] * 4)]


def test_what_the_parent_iterates_does_not_go_on_in_the_child(script: Start) -> None:
    """A clear error where the next page would be asked for; closing and forgetting are quiet."""
    with serving(Api(pods=50, hold=held)) as api:
        source = """
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
    with pager, watch:
        pass
    print("closed", next(pager.pages()).total_count)

def forgotten():
    global pages, items, changes, pager, watch
    del pages, items, changes, pager, watch
    gc.collect()
    print("forgotten", client.pods.get("p0").id)

for work in (refused, closed, forgotten):
    in_child(work)
    in_child(work, leave=sys.exit)
print("parent", client.pods.get("p0").id, next(items).id)
"""
        lines = script(PRELUDE + source, api.url).end().quiet().lines
        error = "This began in the parent process and cannot go on after the fork: begin again."
        assert lines == [error] * 4 + ["closed 50"] * 2 + ["forgotten p0"] * 2 + ["parent p0 p1"]


def test_a_fork_in_on_change(script: Start, api: Api) -> None:
    """The child that returns into the parent's wait gets an error; the parent's wait goes on."""
    source = """
def told(change):
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        print("child", os.waitpid(pid, 0)[1])

try:
    print("parent", list(client.pods.wait(["p0"], on_change=told)))
except primepods.ClientClosedError:
    raise
except primepods.PrimePodsError as error:
    print(error, client.pods.get("p0").id, flush=True)
    os._exit(0)
"""
    lines = script(PRELUDE + source, api.url).end().quiet().lines
    assert lines == [
        "This began in the parent process and cannot go on after the fork: begin again. p0",
        "child 0",
        "parent ['p0']",
    ]


def test_a_fork_while_a_client_starts(script: Start, api: Api) -> None:
    """A lock that the parent's thread held at that moment is not held in the child."""
    source = """
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
"""
    assert script(PRELUDE + source, api.url).end().quiet().lines == ["child p0 p0", "parent p0"]


def test_a_closed_client_stays_closed_in_the_child(script: Start, api: Api) -> None:
    """Nothing is brought back to life."""
    source = """
client.close()

def work():
    try:
        client.pods.get("p0")
    except primepods.ClientClosedError:
        print("closed")

in_child(work)
"""
    assert script(PRELUDE + source, api.url).end().quiet().lines == ["closed"]


def test_a_fork_of_a_fork(script: Start, api: Api) -> None:
    """Each generation has its own."""
    source = """
def work(generation=1):
    print(generation, client.pods.get("p0").id)
    if generation < 3:
        in_child(lambda: work(generation + 1), leave=sys.exit)
        print("again", generation, client.pods.get("p0").id)

in_child(work, leave=sys.exit)
print("parent", client.pods.get("p0").id)
"""
    lines = script(PRELUDE + source, api.url).end().quiet().lines
    assert lines == ["1 p0", "2 p0", "3 p0", "again 2 p0", "again 1 p0", "parent p0"]


def test_a_pool_of_forked_processes(script: Start, api: Api) -> None:
    """The common case: a global client, used by the workers of multiprocessing and by the parent."""
    source = """
import multiprocessing

def work(pod_id):
    return client.pods.get(pod_id).id

with multiprocessing.get_context("fork").Pool(3) as pool:
    print(pool.map(work, ["p0", "p1", "p2"] * 5, chunksize=1) == ["p0", "p1", "p2"] * 5)
    print(client.pods.get("p0").id)
print(len(list(client.pods.list())))
"""
    assert script(PRELUDE + source, api.url).end().quiet().lines == ["True", "p0", "3"]


def test_a_program_started_by_the_parent_is_no_concern(script: Start, api: Api) -> None:
    """`subprocess` forks and executes at once; the connections are not inherited by the new program."""
    source = """
import subprocess
print(subprocess.run([sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"],
                     capture_output=True, text=True).stdout.strip() in {"['0', '1', '2', '3']", ""})
print(client.pods.get("p0").id)
"""
    assert script(PRELUDE + source, api.url).end().quiet().lines == ["True", "p0"]


def test_a_wait_in_the_child_polls_for_itself(script: Start, api: Api) -> None:
    """The poller that the parent's thread runs is not joined by the child."""
    source = """
changes = iter(client.pods.watch(["p0"], interval=0.05))
next(changes)
in_child(lambda: print("child", client.pods.wait_ready("p1", interval=0.05).is_ready))
print("parent", client.pods.wait_ready("p2", interval=0.05).is_ready)
"""
    assert script(PRELUDE + source, api.url).end().quiet().lines == ["child True", "parent True"]
    assert api.count(STATUS) >= 3
