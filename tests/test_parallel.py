"""Same bits whatever the threads, the run, the batch, dead blocks and the caller's modes. Threads, forks, the GIL."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import float_modes
import maskmm
from case_builders import Call
from cases import CASES, build
from oracle import Array
from processes import run_python


def multiply(call: Call) -> Array:
    return maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks())


LARGE = [
    name
    for name in CASES
    if name.startswith(("large/", "long K/", "masks/", "batch/", "small M/", "scales/"))
]
SMALL = [name for name in CASES if name.startswith(("extent/", "types/", "range/", "live NaN/16"))]


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = maskmm.num_threads()
    yield
    maskmm.set_num_threads(before)


@pytest.mark.parametrize("name", LARGE)
def test_bits_do_not_depend_on_threads_or_on_the_run(name: str) -> None:
    call = build(name)
    maskmm.set_num_threads(1)
    expected = multiply(call).tobytes()
    for threads in (2, 3, 5, 16, 2, 5):
        maskmm.set_num_threads(threads)
        assert multiply(call).tobytes() == expected, f"{threads} threads"


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("dead NaN/")])
def test_bits_do_not_depend_on_dead_contents(name: str) -> None:
    call = build(name)
    poisoned = multiply(call)
    for x in (call.a, call.b):
        x[~np.isfinite(x)] = 3
    assert multiply(call).tobytes() == poisoned.tobytes()


@pytest.mark.parametrize(
    "name",
    [
        "batch/many",
        "batch/wide and large",
        "batch/one a for many b",
        "batch/one b for many a",
        "long K/batch",
    ],
)
def test_bits_do_not_depend_on_the_batch(name: str) -> None:
    call = build(name)
    whole = multiply(call)
    batch = whole.shape[:-2]

    def element(x: Array | None, index: tuple[int, ...]) -> Array | None:
        return x if x is None or x.ndim == 2 else x[index]

    for index in np.ndindex(*batch):
        a, b = element(call.a, index), element(call.b, index)
        assert a is not None and b is not None
        alone = multiply(Call(a, b, call.block_size, *(element(mask, index) for mask in call.masks())))
        assert alone.tobytes() == whole[index].tobytes(), index


@pytest.mark.parametrize("words", float_modes.MODES)
@pytest.mark.parametrize("threads", [1, 5])
def test_bits_do_not_depend_on_the_callers_modes(words: str, threads: int) -> None:
    maskmm.set_num_threads(threads)
    calls = {name: build(name) for name in SMALL + LARGE}
    expected = {name: multiply(call).tobytes() for name, call in calls.items()}
    before = float_modes.control_register()
    for name, call in calls.items():
        with float_modes.mode(words) as during:
            result = multiply(call)
            after = float_modes.control_register()
        assert after == during, f"{name}: the mode was {during:#x} and became {after:#x}"
        assert result.tobytes() == expected[name], name
    assert float_modes.control_register() == before


@pytest.mark.parametrize("words", ["", *float_modes.MODES])
def test_bits_do_not_depend_on_the_modes_at_the_first_call(words: str) -> None:
    # Threads take over the modes of the thread that starts them.
    program = """
        import hashlib, sys, float_modes, maskmm
        from cases import build
        names = ["large/64", "long K/20000/float32/scales", "masks/out lhs rhs/64/float16", "masks/lhs/32/float64"]
        calls = [build(name) for name in names] + [build("range/subnormals")]
        with float_modes.mode(WORDS):
            maskmm.set_num_threads(4)
            results = [maskmm.block_masked_mm(c.a, c.b, c.block_size, *c.masks()) for c in calls for _ in range(3)]
        print([hashlib.sha256(result.tobytes()).hexdigest() for result in results])
    """
    assert run_python(program.replace("WORDS", repr(words))) == run_python(program.replace("WORDS", "''"))


def test_many_python_threads_at_once() -> None:
    names = [
        name for name in CASES if name.startswith(("large/", "masks/", "1-D/", "out/", "extent/17x33x65"))
    ]
    expected = {name: multiply(build(name)).tobytes() for name in names}

    def work(offset: int) -> list[str]:
        order = names[offset:] + names[:offset]
        return [name for name in order if multiply(build(name)).tobytes() != expected[name]]

    with ThreadPoolExecutor(12) as pool:
        wrong = list(pool.map(work, range(12)))
    assert wrong == [[]] * 12


def test_threads_change_their_number_while_others_multiply() -> None:
    call = build("large/64")
    expected = multiply(call).tobytes()
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for threads in (1, 4, 2, 7):
                maskmm.set_num_threads(threads)
                time.sleep(0.0005)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        assert all(multiply(call).tobytes() == expected for _ in range(30))
    finally:
        stop.set()
        changer.join()


def test_several_streams_side_by_side() -> None:
    call = build("large/64")
    expected = multiply(call).tobytes()
    streams = [maskmm.new_stream(maskmm.cpu) for _ in range(4)]

    def work(stream: maskmm.Stream) -> bytes:
        result = maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks(), stream=stream)
        maskmm.synchronize(stream)
        return result.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, streams)) == [expected] * 4


def test_the_gil_is_released() -> None:
    # A thread gives the GIL away when it blocks or after the switch interval, which is an hour here. So the watcher can
    # run between "started" and "ended" only if the call itself releases the GIL.
    a = np.ones((1500, 1500), np.float32)
    state = {"running": False, "seen": 0}
    ready, stop = threading.Event(), threading.Event()

    def watch() -> None:
        ready.set()
        while not stop.is_set():
            state["seen"] += state["running"]
            time.sleep(0.0002)

    interval = sys.getswitchinterval()
    watcher = threading.Thread(target=watch)
    watcher.start()
    ready.wait()
    try:
        sys.setswitchinterval(3600)
        state["running"] = True
        maskmm.block_masked_mm(a, a)
        state["running"] = False
        seen = state["seen"]
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        watcher.join()
    assert seen > 0


FORK = """
    import os, sys, threading, time
    import numpy as np
    import maskmm
    from cases import build

    def multiply(name):
        call = build(name)
        return maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks()).tobytes()

    def in_child(function):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if function() else 1)
            finally:
                os._exit(2)
        return pid

    def ended_well(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    maskmm.set_num_threads(4)
"""


def test_fork_after_threads_were_used() -> None:
    program = """
    names = ["large/64", "masks/lhs/32/float32", "extent/17x33x65/16", "long K/20000/lhs"]
    expected = {name: multiply(name) for name in names}
    def child():
        right = all(multiply(name) == expected[name] for name in names)
        grandchild = in_child(lambda: multiply("large/64") == expected["large/64"])
        return right and ended_well(grandchild)
    children = [in_child(child) for _ in range(4)]
    assert all(multiply(name) == expected[name] for name in names)
    print([ended_well(pid) for pid in children])
    """
    assert run_python(FORK + program, timeout=60) == str([True] * 4)


def test_fork_right_after_a_call() -> None:
    # The pool's threads are still on their way to sleep: a lock that one of them holds stays locked in the child.
    program = """
    call = build("masks/lhs/32/float32")
    def again():
        return maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks()).tobytes()
    expected = again()
    result = []
    for _ in range(200):
        again()
        result.append(ended_well(in_child(lambda: again() == expected)))
    print(all(result))
    """
    assert run_python(FORK + program, timeout=60) == "True"


def test_fork_while_other_threads_multiply() -> None:
    program = """
    expected = multiply("large/64")
    stop = False
    def keep_busy():
        while not stop:
            multiply("masks/lhs/32/float32")
    threads = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in threads: thread.start()
    result = []
    for _ in range(20):
        result.append(ended_well(in_child(lambda: multiply("large/64") == expected)))
    stop = True
    for thread in threads: thread.join()
    print(all(result))
    """
    assert run_python(FORK + program, timeout=60) == "True"


def test_fork_before_the_first_call() -> None:
    program = """
    children = [in_child(lambda: len(multiply("large/64")) > 0) for _ in range(2)]
    print([ended_well(pid) for pid in children], len(multiply("large/64")))
    """
    assert run_python(FORK + program, timeout=60) == f"[True, True] {700 * 900 * 4}"


def test_calls_at_exit_and_from_daemon_threads() -> None:
    program = """
    import atexit
    atexit.register(lambda: print(len(multiply("large/64"))))
    def forever():
        while True:
            multiply("masks/lhs/32/float32")
    threading.Thread(target=forever, daemon=True).start()
    multiply("large/64")
    """
    assert run_python(FORK + program, timeout=60) == str(700 * 900 * 4)


def test_set_num_threads() -> None:
    for threads in (1, 3, 64):
        maskmm.set_num_threads(threads)
        assert maskmm.num_threads() == threads
    call = build("large/64")
    maskmm.set_num_threads(3)
    explanation = maskmm.explain(call.a, call.b, call.block_size, *call.masks())
    assert explanation.threads == 3
    small = build("extent/2x3x5/16")
    assert maskmm.explain(small.a, small.b, small.block_size, *small.masks()).threads == 1


@pytest.mark.parametrize("count", ["1", "3", "11"])
def test_num_threads_from_the_environment(count: str) -> None:
    assert run_python("import maskmm; print(maskmm.num_threads())", MASKMM_NUM_THREADS=count) == count


def test_num_threads_by_default() -> None:
    program = """
        import os
        os.environ.pop("MASKMM_NUM_THREADS", None)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:COUNT])
        import maskmm
        print(maskmm.num_threads())
    """
    for count in {1, len(os.sched_getaffinity(0))}:
        assert run_python(program.replace("COUNT", str(count))) == str(count)
