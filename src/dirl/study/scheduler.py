"""Runs side by side: each in its own process, on a GPU or on its share of the cores."""

import os
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from dirl.core.errors import DirlError, Interrupted, as_dirl_error
from dirl.core.parallel import begin_silent_worker, show_messages, take_messages
from dirl.core.signals import number_of, patient, raising_stop, starting, stopping

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time: its GPU, None if there is none, and its number of threads."""

    gpu: str | None
    threads: int


def slots(device: str, parallel: int | None) -> list[Slot]:
    """Divide the visible GPUs, or with device ``cpu`` the cores, among `parallel` runs at a time.

    None is one run for each GPU, or one. More runs than GPUs share them in turn.
    """
    import torch

    gpus: list[str] = []
    if device != "cpu" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        gpus = named.split(",")[:count]
    number = parallel or max(1, len(gpus))
    threads = max(1, torch.get_num_threads() // number)
    return [Slot(gpus[i % len(gpus)] if gpus else None, threads) for i in range(number)]


def run_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    places: Sequence[Slot],
    ready: Callable[[Item], bool] = lambda item: True,
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Apply `function` to every item in a fresh process, and yield each with its result or its exception.

    Unlike in `dirl.core.parallel`, every item has its own process. A process cannot change its visible GPUs,
    and if the system kills one, the others continue. A signal to this process stops them all, and
    `KeyboardInterrupt` or `Interrupted` is raised. Otherwise, if a process ends early, only its item fails.
    An exception of `function` becomes a `DirlError`, since not every exception can be pickled.

    Items are taken in order, one at a time in each place. `ready` tells whether an item can start; it may
    depend on results that were yielded before. `function` and items must be picklable.
    """
    waiting, free = list(items), list(places)
    running: dict[Connection, tuple[Item, Slot, SpawnProcess]] = {}
    with raising_stop():
        try:
            while waiting or running:
                while free and (able := [item for item in waiting if ready(item)]):
                    waiting.remove(able[0])
                    item, place = able[0], free.pop(0)
                    receiver, process = _start(function, item, place)
                    running[receiver] = item, place, process
                heard = wait(list(running))
                for receiver in [each for each in running if each in heard]:
                    item, place, process = running.pop(receiver)
                    outcome = _outcome(receiver, process)
                    free.append(place)
                    yield item, outcome
        finally:
            for _, _, process in running.values():
                process.terminate()
            with patient():  # a process finishes its training step and saves it
                for _, _, process in running.values():
                    process.join()


def _start(function: Callable[[Item], Any], item: Item, place: Slot) -> tuple[Connection, SpawnProcess]:
    # spawn: a forked process cannot use CUDA. Pickled here, so that the process unpickles it in `_work`.
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(place, sender, pickle.dumps((function, item))))
    with starting():
        process.start()
    sender.close()
    return receiver, process


def _outcome(receiver: Connection, process: SpawnProcess) -> Any:
    with receiver:
        try:
            outcome, messages = receiver.recv()
        except Exception:  # nothing came, or it cannot be unpickled
            process.join()
            return DirlError(
                f"its process ended without a result, with exit code {process.exitcode}; −9 most likely "
                "means too little memory",
                remedy="run the same command again, with a smaller --parallel",
            )
    process.join()
    show_messages(messages)
    if isinstance(outcome, Interrupted):
        raise outcome
    return outcome


def _work(place: Slot, sender: Connection, task: bytes) -> None:
    begin_silent_worker()
    try:
        outcome = _attempt(place, task)
        sender.send((outcome, take_messages()))
    except (KeyboardInterrupt, BrokenPipeError):  # a late signal, or the parent has ended: print nothing
        os._exit(1)


def _attempt(place: Slot, task: bytes) -> Any:
    """Return the result of a task, or its exception in a form that can be pickled."""
    # Before anything asks for a GPU: later changes have no effect.
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(place.threads)
    try:
        # This imports the function's libraries. There is nothing to remove yet, so a signal may end it.
        function, item = pickle.loads(task)
        with stopping(), threadpool_limits(place.threads):
            return function(item)
    except KeyboardInterrupt as stop:
        return Interrupted(number_of(stop))
    except BaseException as error:  # SystemExit as well
        return _portable(as_dirl_error(error))


def _portable(error: DirlError) -> DirlError:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # it has another constructor, or holds what cannot be pickled
        return DirlError(str(error))
    return error
