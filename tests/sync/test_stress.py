"""Interrupts and closing at random moments, many times over: nothing hangs, nothing breaks."""

import random
import re
import threading
import time

import pytest

import primepods
from tests.sync.conftest import Start
from tests.sync.harness import Api, client_of, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

INTERRUPTED = """
    import signal, threading, time, primepods

    calling, signals, interrupted, ends_at = False, 0, 0, time.monotonic() + 60

    def interrupt(number, frame):
        # As Python's own handler, but not in the loop around the calls.
        global signals
        signals += 1
        if calling:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    client = primepods.Client()
    pods = client.pods
    calls = [
        lambda: pods.get("p0"),
        lambda: list(pods.list(page_size=1)),
        lambda: next(iter(pods.watch(["p0"]))),
        lambda: pods.wait(["p0"]),
    ]
    while signals < 1300 and time.monotonic() < ends_at:
        try:
            calling = True
            calls[interrupted % len(calls)]()
            calling = False
        except KeyboardInterrupt:
            calling = False
            interrupted += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for call in calls:
        call()
    client.close()
    print(interrupted, signals, [thread.name for thread in threading.enumerate()])
"""


def test_1300_interrupts(start: Start, api: Api) -> None:
    """Each ends the call under way, wherever that is, and the next one works; nothing is left at the end.

    As many as a slow machine can handle in a minute.
    """
    rng = random.Random(7)
    running = start(INTERRUPTED)
    eventually(lambda: api.requests, "the first call")
    ends_at = time.monotonic() + 120
    while running.alive and time.monotonic() < ends_at:
        time.sleep(rng.uniform(0, 0.004))
        running.interrupt()
    ended = running.end()
    # Python itself writes of an interrupt that came in a finalizer, which nothing can raise.
    assert ended.code == 0, ended
    assert not re.search("lock|acquire|release", ended.err), ended
    interrupted, signals, threads = ended.out.split()
    assert threads == "['MainThread']"
    assert int(interrupted) > int(signals) / 2 > 50
    eventually(lambda: api.open == 0, "connections are closed")


def test_closing_under_hammering_threads_100_times(api: Api) -> None:
    """Whatever the moment, each call ends, with a result or with ClientClosedError, and `close` returns."""
    rng = random.Random(7)

    def work(client: primepods.Client, errors: list[Exception]) -> None:
        try:
            while True:
                client.pods.get("p0")
        except Exception as error:
            errors.append(error)

    for _ in range(100):
        client = client_of(api)
        errors: list[Exception] = []
        threads = [threading.Thread(target=work, args=(client, errors), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 0.02))
        client.close()
        for thread in threads:
            thread.join(40)
        assert [type(error) for error in errors] == [primepods.ClientClosedError] * 8
    eventually(lambda: api.open == 0, "connections are closed")
