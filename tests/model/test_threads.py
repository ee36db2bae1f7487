"""One BLAS thread while networks run: who runs is counted, and a fork starts anew."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nupes.model.threads import single_threaded_blas

ROOT = Path(__file__).parents[2]


def threads() -> set[int]:
    """Return the numbers of threads that the libraries of linear algebra have."""
    return {item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    """Let the BLAS have two threads."""
    with threadpool_limits(2, user_api="blas"):
        yield


def test_the_blas_has_one_thread_inside_and_its_own_again_outside() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    assert threads() == {2}
    with single_threaded_blas(), single_threaded_blas():
        assert threads() == {1}
    assert threads() == {2}
    with pytest.raises(KeyError), single_threaded_blas():
        raise KeyError
    assert threads() == {2}


def test_the_last_of_several_threads_restores_it() -> None:
    inside, leave, end = [Event(), Event()], [Event(), Event()], Event()

    def hold(index: int) -> None:
        with single_threaded_blas():
            inside[index].set()
            leave[index].wait(60)
        left[index].set()
        end.wait(60)

    left = [Event(), Event()]
    workers = [Thread(target=hold, args=(index,)) for index in range(2)]
    for index, worker in enumerate(workers):
        worker.start()
        assert inside[index].wait(60)
    leave[0].set()
    assert left[0].wait(60)
    assert threads() == {1}
    leave[1].set()
    assert left[1].wait(60)
    assert threads() == {2}  # although the thread that set it still lives
    end.set()
    for worker in workers:
        worker.join()


FORKS = """
import os, signal, threading, time, warnings
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from nupes.model import network as module
from nupes.model.threads import HOLDERS
from tests.model.tiny import tiny_network
from tests.images import images_of

warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process of several threads
threadpool_limits(2, user_api="blas")
module.CHUNK_PIXELS = 32
network = tiny_network()
codes = network.encode(images_of(network, 64))
want = network.run(codes)

def threads():
    return {item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas"}

def child(start):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a deadlock becomes a status
        good = start() and np.array_equal(network.run(codes), want) and threads() == {2}
        os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""


def run(script: str) -> None:
    """Run a script beside the tests; it prints what is wrong."""
    result = subprocess.run(
        [sys.executable, "-c", FORKS + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


SCRIPTS = {
    "while a thread enters": """
held = threading.Event()
def enter():
    with HOLDERS.lock:
        held.set()
        time.sleep(0.5)
worker = threading.Thread(target=enter)
worker.start()
held.wait()
status = child(lambda: HOLDERS.count == 0)
worker.join()
assert status == 0, status
""",
    "while the BLAS is held": """
with module.single_threaded_blas():
    assert threads() == {1}
    status = child(lambda: threads() == {2})
    assert threads() == {1}
assert status == 0, status
""",
    "while networks run": """
stop = threading.Event()
def work():
    while not stop.is_set():
        assert np.array_equal(network.run(codes), want)
workers = [threading.Thread(target=work) for _ in range(2)]
for worker in workers:
    worker.start()
statuses = [child(lambda: True) for _ in range(12)]
stop.set()
for worker in workers:
    worker.join()
assert statuses == [0] * 12, statuses
""",
}


AFTERWARDS = """
assert np.array_equal(network.run(codes), want)
assert threads() == {2}
print("done")
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_child_runs_and_leaves_its_parent_alone(name: str) -> None:
    run(SCRIPTS[name] + AFTERWARDS)
