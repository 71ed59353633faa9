"""Interrupts and closing at random moments, many times over: nothing hangs, nothing breaks."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable

import pytest

import primepods
from tests.sync.harness import Api, Script, client_of, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

INTERRUPTED = """
    import signal, threading, primepods

    calling, signals, gets = False, 0, 0

    def interrupt(number, frame):
        # As Python's own handler, but not in the loop around the calls.
        global signals
        signals += 1
        if calling:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    client = primepods.Client()
    interrupted = 0
    while signals < 1300:
        try:
            calling = True
            assert client.pods.get("p0").id == "p0"
            calling = False
            gets += 1
        except KeyboardInterrupt:
            calling = False
            interrupted += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert client.pods.get("p0").id == "p0"
    client.close()
    print(gets, interrupted, [thread.name for thread in threading.enumerate()])
"""


def test_interrupting_a_loop_of_gets_1300_times(script: Callable[..., Script], api: Api) -> None:
    """Each ends the call under way, wherever that is, and the next one works; nothing is left at the end."""
    rng = random.Random(7)
    running = script(INTERRUPTED, api.url)
    eventually(lambda: api.requests, "the first call")
    ends_at = time.monotonic() + 120
    while running.alive and time.monotonic() < ends_at:
        time.sleep(rng.uniform(0, 0.004))
        running.interrupt()
    ended = running.end()
    # Python itself writes of an interrupt that came in a finalizer, which nothing can raise.
    assert ended.code == 0, ended
    assert not re.search("lock|acquire|release", ended.err), ended
    gets, interrupted, threads = ended.out.split()
    assert (int(gets) > 0, int(interrupted) > 650, threads) == (True, True, "['MainThread']"), ended
    eventually(lambda: api.server.open == 0, "connections are closed")


def test_closing_under_hammering_threads_300_times(api: Api) -> None:
    """Whatever the moment, each call ends, with a result or with ClientClosedError, and `close` returns."""
    rng = random.Random(7)

    def work(client: primepods.Client, errors: list[Exception]) -> None:
        try:
            while True:
                client.pods.get("p0")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            errors.append(error)

    for _ in range(300):
        client = client_of(api)
        errors: list[Exception] = []
        threads = [threading.Thread(target=work, args=(client, errors), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 0.02))
        client.close()
        for thread in threads:
            thread.join(10)
        assert [type(error) for error in errors] == [primepods.ClientClosedError] * 8
    eventually(lambda: api.server.open == 0, "connections are closed")
