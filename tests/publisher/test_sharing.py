"""One publisher in several threads, and in processes that were forked with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from publisher import Publisher
from tests.publisher.test_publishing import CHANNEL

ROOT = Path(__file__).parents[2]

FORKING = """
import os, sys
from publisher import Publisher

with Publisher.from_url(sys.argv[1], prefix=sys.argv[2]) as publisher:
    publisher.publish("run-results/session-1", "before")
    children = []
    for child in range(4):
        pid = os.fork()
        if not pid:
            for n in range(25):
                published = publisher.publish("run-results/session-1", [child, n])
                (entry,) = publisher.history("run-results/session-1", published.id - 1, 1)
                assert entry.data == [child, n], entry
            os._exit(0)
        children.append(pid)
    for n in range(25):
        publisher.publish("run-results/session-1", ["parent", n])
    print([os.waitpid(pid, 0)[1] for pid in children])
"""


CLOSING = """
import os, sys
from publisher import Publisher

publisher = Publisher.from_url(sys.argv[1], prefix=sys.argv[2])
publisher.publish("run-results/session-1", "before")
with publisher._connections._lock:  # as another thread may hold it
    pid = os.fork()
    if not pid:
        publisher.close()
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
publisher.publish("run-results/session-1", "after")
"""


@pytest.mark.one_server("a cluster has connections of this kind for each primary")
def test_a_forked_process_can_close_what_another_thread_was_just_using(
    publisher: Publisher, redis_url: str, prefix: str
):
    command = [sys.executable, "-c", CLOSING, redis_url, prefix]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (run.stdout, run.stderr) == ("0\n", "")


def test_threads_share_a_publisher_and_each_gets_its_own_replies(publisher: Publisher):
    def publish(thread: int) -> None:
        for n in range(20):
            published = publisher.publish(CHANNEL, [thread, n])
            (entry,) = publisher.history(CHANNEL, published.id - 1, 1)
            if entry.data != [thread, n]:
                wrong.append(entry)

    wrong: list[object] = []
    threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len({entry.id for entry in publisher.history(CHANNEL)}) == 160


def test_a_forked_process_does_not_use_its_parents_connections(
    publisher: Publisher, redis_url: str, prefix: str
):
    command = [sys.executable, "-c", FORKING, redis_url, prefix]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (run.stdout, run.stderr) == ("[0, 0, 0, 0]\n", "")
    sent = [tuple(entry.data) for entry in publisher.history(CHANNEL) if entry.data != "before"]
    assert len(sent) == len(set(sent)) == 125
