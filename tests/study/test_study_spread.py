"""Every item in a process of its own, in its place. Few imports: each process repeats them."""

import atexit
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from dirl.core.errors import DirlError, DirlWarning, PartlyFailedError, TrainingError
from dirl.core.progress import say
from dirl.study.scheduler import Slot, run_in_processes, slots


def threads_or_death(item: int) -> tuple[str | None, int]:
    import torch

    if item == 1:
        raise TrainingError("collapsed", where=item)
    if item == 2:
        os._exit(9)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), torch.get_num_threads()


def test_each_item_has_its_own_process_and_place() -> None:
    found = dict(run_in_processes(threads_or_death, range(3), [Slot("5", 2), Slot("5", 2)]))
    assert found[0] == ("5", 2)
    assert isinstance(found[1], TrainingError)
    assert isinstance(found[2], DirlError) and "exit code 9" in str(found[2])


def when(item: int) -> tuple[float, float]:
    begun = time.time()
    time.sleep(0.2)
    return begun, time.time()


def test_what_is_not_ready_waits_and_lets_others_pass() -> None:
    done: dict[int, tuple[float, float]] = {}
    places = [Slot(None, 1), Slot(None, 1)]
    for item, times in run_in_processes(when, [0, 1, 2], places, lambda item: item != 1 or 2 in done):
        assert not isinstance(times, Exception)
        done[item] = times
    assert {*done} == {0, 1, 2} and done[1][0] > done[2][1]


def warn(item: int) -> None:
    warnings.warn("the tokens are coarse", DirlWarning, stacklevel=1)
    say(f"line of {item}")


def test_warnings_and_lines_of_the_processes_are_shown_by_this_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dirl"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        assert len(list(run_in_processes(warn, range(2), [Slot(None, 1)]))) == 2
    assert [str(one.message) for one in warned] == ["the tokens are coarse"], "each text once"
    assert [one.getMessage() for one in caplog.records] == ["line of 0", "line of 1"]


class OddError(Exception):
    """Does not unpickle: it is made of two arguments, and pickled with one."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def ill(item: str) -> str:
    if item == "odd":
        raise OddError("no", "way")
    if item == "partly":
        raise PartlyFailedError({"x": DirlError("broken")}, 1)
    if item == "exit":
        sys.exit(0)
    if item == "gone":
        os._exit(0)
    atexit.register(os._exit, 7)
    return ",".join(sorted({str(pool["num_threads"]) for pool in threadpool_info()}))


def test_whatever_ends_a_process_fails_its_item_alone() -> None:
    found = dict(run_in_processes(ill, ["odd", "partly", "exit", "gone", "well"], [Slot(None, 1)] * 2))
    assert all(isinstance(found[item], DirlError) for item in ("odd", "partly", "exit", "gone"))
    odd = found["odd"]
    assert isinstance(odd, DirlError)
    assert str(odd) == "unexpected OddError: no way" and "in ill" in odd.__notes__[0]
    assert "1 failed, 1 done" in str(found["partly"])
    assert "SystemExit" in str(found["exit"]) and "without a result" in str(found["gone"])
    assert found["well"] == "1"  # whatever its process does afterwards


def test_cores_are_divided(monkeypatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert slots("cpu", None) == [Slot(None, 8)]
    assert slots("cpu", 3) == [Slot(None, 2)] * 3


def test_gpus_are_taken_in_turn(monkeypatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert slots("auto", None) == [Slot("4", 4), Slot("6", 4)]
    assert [slot.gpu for slot in slots("cuda", 3)] == ["4", "6", "4"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [slot.gpu for slot in slots("cuda", None)] == ["0", "1"]
    assert slots("cpu", None) == [Slot(None, 8)]


def wait_for_ever(item: Path) -> None:
    item.touch()
    time.sleep(600)


def test_a_stop_reaches_the_processes(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    watch = threading.Thread(target=lambda: stop_when(begun, os.getpid()))
    watch.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(run_in_processes(wait_for_ever, [begun, tmp_path / "never"], [Slot(None, 1)]))
    watch.join(60)
    assert time.monotonic() - started < 300 and not (tmp_path / "never").exists()
    assert multiprocessing.active_children() == []


def stop_when(begun: Path, process: int) -> None:
    end = time.monotonic() + 300
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process, signal.SIGTERM)
