"""A signal handler that raises during a call (Celery's soft_time_limit, Ctrl-C), hundreds of times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BOMBARDED = """
import gc, os, signal, sys, time
import redis
from publisher import Publisher
from publisher.contract.calls import Call
from publisher.transport.resp import pack

class Interrupted(Exception):
    pass

def interrupt(*_):
    raise Interrupted

signal.signal(signal.SIGALRM, interrupt)
signals = 0
url, prefix, most = sys.argv[1:]
publisher = Publisher.from_url(f"{url}?max_connections=2", prefix=prefix, retries=0)
wrong = []

def bombarded(work):
    global signals
    for n in range(int(most)):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00002 + (n % 200) * 0.00001)
            work(n)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Exception as error:
            # A finally of the redis package may raise an error of its own in its place.
            while not isinstance(error, Interrupted):
                assert error.__context__, error
                error = error.__context__
            signals += 1

def publish(n):
    for m in range(4):
        published = publisher.publish("run-results/session-1", [n, m])
        (entry,) = publisher.history("run-results/session-1", published.id - 1, 1)
        if entry.data != [n, m]:
            wrong.append(entry)

numbers = ("EVALSHA", "x", *range(200), 1.5)

def packing(n):
    for _ in range(20):
        pack(numbers)

bombarded(publish)
bombarded(packing)
signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
# Two connections, that is all there may be, and both are to be had.
taken = [publisher._connections.take() for _ in range(2)]
print(len(wrong), signals > int(most) // 4, len(taken))
"""


@pytest.mark.one_server("its connections are counted")
def test_interrupts_neither_crash_nor_leak_a_connection_nor_mix_up_replies(
    redis_url: str, prefix: str
):
    run = subprocess.run(
        [sys.executable, "-c", BOMBARDED, redis_url, prefix, "1500"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    # An exception that a handler raises while Python collects garbage is printed and ignored.
    assert (run.returncode, run.stdout) == (0, "0 True 2\n"), run.stderr
