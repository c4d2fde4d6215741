"""Kill every stage at random moments, run it again to its end, and compare with an uninterrupted run.

`python benchmarks/kills.py --kills 200`, on Linux. Each run is a forked process with its imports behind it,
on inputs of seconds. SIGKILL, SIGTERM, SIGINT and SIGHUP go to it alone or to its whole process group, as
from a terminal or a scheduler. Checks:

- The exit code is right, and the process ends within 5 seconds.
- No process is left, and no part of a file, except after SIGKILL.
- The same call then succeeds, and leaves the same files as an uninterrupted run.

Writes results/kills.json.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with threads cannot be forked

import argparse
import importlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness import write
from kill_stages import STAGES, make_inputs, outputs

SIGNALS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 130}
LINE = "error: interrupted — run the same command again to continue"
ENDS_S = 5
HANGS_S = 30
LONGEST_S = 600
TRIES = 5


@dataclass
class Kill:
    """One interruption: when it came, as a share of the stage's time, how it ended, and what was wrong."""

    stage: str
    signal: str
    to_group: bool
    share: float
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-results", action="store_true", help="print the table only")
    given = parser.parse_args()
    # `nohup` and a shell's `&` have them ignored, and every process that is started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for module in {name for stage in given.stages for name in (*STAGES[stage].modules, "dirl.cli.main")}:
        importlib.import_module(module)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dirl-kills-") as folder:
        done = list(kill_all(Path(folder), given.stages, given.kills, random.Random(given.seed)))
    print_table(done)
    if not given.no_results:
        for kill in done:  # logs may name places of this machine
            kill.problems = [problem.splitlines()[0] for problem in kill.problems]
        write("kills", {"kills": len(done), "by_stage": table(done), "each": [asdict(kill) for kill in done]})
    return int(any(kill.problems for kill in done))


def kill_all(work: Path, names: list[str], kills: int, chance: random.Random) -> Iterator[Kill]:
    (work / "inputs").mkdir()
    needed = {name for stage in names for name in STAGES[stage].needs}
    code, _, log = finish(start(lambda: make_inputs(work / "inputs", needed), work / "log"), work / "log")
    if code:
        sys.exit(f"the inputs were not made: {log}")
    shares = [STAGES[name].share for name in names]
    for name, share in zip(names, shares, strict=True):
        prepare(work, name)
        code, seconds, log = finish(start(partial(call, work, name), work / "log"), work / "log")
        if code:
            sys.exit(f"{name}, uninterrupted: exit code {code}: {log}")
        whole = outputs(work / "now")
        count = max(1, round(kills * share / sum(shares)))
        signals = [list(SIGNALS)[i % len(SIGNALS)] for i in range(count)]
        chance.shuffle(signals)
        for i, one in enumerate(signals):
            kill = kill_once(work, name, one, (i, count), seconds, chance, whole)
            if kill.problems:
                print(f"{name}, {kill.signal} at {kill.share:.2f}:", *kill.problems, sep="\n    ", flush=True)
            yield kill


def kill_once(
    work: Path,
    name: str,
    which: str,
    part: tuple[int, int],
    seconds: float,
    chance: random.Random,
    whole: dict[str, str],
) -> Kill:
    """Interrupt a stage at a random moment of one part of its time, and run it again."""
    for _ in range(TRIES):
        kill = Kill(name, which, chance.random() < 0.5, (part[0] + chance.random()) / part[1])
        prepare(work, name)
        process = start(lambda: call(work, name), work / "log")
        time.sleep(kill.share * seconds)
        number = getattr(signal, which)
        with_group = os.killpg if kill.to_group else os.kill
        with_group(process, number)
        code, kill.seconds, log = finish(process, work / "log", HANGS_S)
        if code != 0 or "Traceback" in log:
            break
        seconds *= 0.75  # it had ended by then: the machine is less busy than before
    left = gone(process)
    if code != SIGNALS[which]:
        kill.problems.append(f"exit code {code}")
    if left is not None and left > ENDS_S:
        kill.problems.append("a process is left")
    if which != "SIGKILL":
        if kill.seconds is not None and kill.seconds > ENDS_S:
            kill.problems.append(f"ended after {kill.seconds:.1f} s")
        if parts := list((work / "now").rglob(".*.part")):
            kill.problems.append(f"left {parts[0].relative_to(work)}")
        if [line for line in log.splitlines() if not line.startswith("warning")] != [LINE]:
            kill.problems.append(f"said more than its line:\n{log}")
    code, _, log = finish(start(lambda: call(work, name), work / "log"), work / "log")
    if code:
        kill.problems.append(f"run again: exit code {code}\n{log}")
    elif differ := {place for place, _ in whole.items() ^ outputs(work / "now").items()}:
        kill.problems.append(f"run again: other outputs: {', '.join(sorted(differ))}")
    if parts := list((work / "now").rglob(".*.part")):
        kill.problems.append(f"run again: left {parts[0].relative_to(work)}")
    return kill


def prepare(work: Path, name: str) -> None:
    """Put fresh inputs in the folder of the next run, always the same: outputs may name it."""
    shutil.rmtree(work / "now", ignore_errors=True)
    (work / "now").mkdir()
    for need in STAGES[name].needs:
        shutil.copytree(work / "inputs" / need, work / "now" / need)


def call(work: Path, name: str) -> None:
    from dirl.cli.main import guarded

    run: Any = STAGES[name].run
    guarded(run)(work / "now")


def start(function: Callable[[], object], log: Path) -> int:
    """Run a function in a forked process with a group of its own, and return when it begins."""
    ready, begun = os.pipe()
    process = os.fork()
    if process:
        os.close(begun)
        os.read(ready, 1)
        os.close(ready)
        return process
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from dirl.core.signals import leave_at_once

        leave_at_once()
        os.close(begun)
        function()
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(process: int, log: Path, longest_s: float = LONGEST_S) -> tuple[int, float, str]:
    """Wait for a process; return its exit code, negative for a signal, how long that took, what it said.

    One that takes longer than `longest_s` is killed.
    """
    begun = time.monotonic()
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() - begun > longest_s:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1]), time.monotonic() - begun, log.read_text()


def gone(group: int) -> float | None:
    """Seconds until no process of a group is left; None where there was none."""
    begun = time.monotonic()
    while members(group):
        if time.monotonic() - begun > 2 * ENDS_S:
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.02)
    return time.monotonic() - begun


def members(group: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
        except OSError:  # it has ended
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(folder.name))
    return found


def table(done: list[Kill]) -> dict[str, dict[str, dict[str, float | int]]]:
    found: dict[str, dict[str, dict[str, float | int]]] = {}
    for kill in done:
        cell = found.setdefault(kill.stage, {}).setdefault(
            kill.signal, {"kills": 0, "right": 0, "slowest_s": 0.0}
        )
        cell["kills"] += 1
        cell["right"] += not kill.problems
        cell["slowest_s"] = round(max(cell["slowest_s"], kill.seconds or 0), 2)
    return found


def print_table(done: list[Kill]) -> None:
    print(f"{'right of all, slowest end':24}" + "".join(f"{name:>20}" for name in SIGNALS))
    for stage, cells in table(done).items():
        line = f"{stage:24}"
        for name in SIGNALS:
            cell = cells.get(name)
            text = f"{cell['right']} of {cell['kills']}, {cell['slowest_s']:.1f} s" if cell else "–"
            line += f"{text:>20}"
        print(line)
    right = sum(not kill.problems for kill in done)
    print(f"{right} of {len(done)} kills: ended as they should, and the same files after another run")


if __name__ == "__main__":
    sys.exit(main())
