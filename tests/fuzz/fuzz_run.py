"""Read damaged files, each in a time and a memory that are bounded, and say what came of it.

``python -m tests.fuzz.fuzz_run COUNT SEED`` prints a table by kind. The readers run in a child of this
process: the system ends one that hangs or crashes, and another child goes on with the next file.
"""

import argparse
import json
import logging
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

CPU_SECONDS, WALL_SECONDS = 5, 60  # wall: for what waits and does not compute; the machine may be busy
MEMORY = 3 * 2**30
OUTCOMES = ("error", "right", "undetectable", "changed", "foreign", "hang")


@dataclass(frozen=True)
class Outcome:
    """What a reader made of one damaged file."""

    kind: str
    number: int
    damage: str
    outcome: str
    words: str = ""


def run(count: int, seed: int, only: str = "") -> list[Outcome]:
    """Damage `count` files, all kinds in turn, and read them."""
    from tests.fuzz.fuzz_kinds import make_kinds

    with tempfile.TemporaryDirectory() as folder:
        kinds = [kind for kind in make_kinds(Path(folder)) if only in kind.name]
        expected = {}
        for kind in kinds:
            expected[kind.name] = digest_of(kind)
            assert expected[kind.name] == digest_of(kind), f"{kind.name} is not read alike twice"
        found: list[Outcome] = []
        while len(found) < count:
            found += _child(kinds, expected, len(found), count, seed)
    return found


def _child(kinds, expected, first: int, last: int, seed: int) -> list[Outcome]:
    """Outcomes of a child process, until it is through or dies of one, which is then the last."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        with os.fdopen(send, "wb") as sender:
            _bound_memory()
            for number in range(first, last):
                pickle.dump(attempt(kinds[number % len(kinds)], expected, number, seed), sender)
                sender.flush()
            os._exit(0)
    os.close(send)
    found = []
    with os.fdopen(receive, "rb") as receiver:
        while True:
            try:
                found.append(pickle.load(receiver))
            except EOFError:
                break
    _, status = os.waitpid(child, 0)
    if first + len(found) < last:
        kind = kinds[(first + len(found)) % len(kinds)]
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        hung = by in (signal.SIGPROF, signal.SIGALRM)
        outcome = ("hang", "") if hung else ("foreign", f"the process died of signal {by}")
        found.append(Outcome(kind.name, first + len(found), "?", *outcome))
        kind.restore()
    return found


def attempt(kind, expected, number: int, seed: int) -> Outcome:
    """Damage a file, read it, and put the whole one back."""
    from tests.fuzz.fuzz_mutations import place

    rng = random.Random(f"{seed} {number} {kind.name}")
    damage = place(kind.path, kind.data, kind.text, rng)
    for clock, seconds in ((signal.ITIMER_PROF, CPU_SECONDS), (signal.ITIMER_REAL, WALL_SECONDS)):
        signal.setitimer(clock, seconds)
    try:
        outcome, words = judge(kind, expected[kind.name])
    finally:
        for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(clock, 0)
        kind.restore()
    return Outcome(kind.name, number, damage, outcome, words)


def judge(kind, expected: bytes) -> tuple[str, str]:
    """Read, and class what came of it."""
    from dirl.core.errors import DirlError, as_dirl_error

    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = digest_of(kind)
    except (DirlError, OSError) as raised:
        error = as_dirl_error(raised)  # as the command does
        cause = error.__cause__
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause):
            return "foreign", f"memory: {error}"
        if error.reason.startswith("unexpected") or not error.remedy:
            return "foreign", f"unclear: {error}"
        return "error", str(error)
    except Exception as error:
        import traceback

        at = traceback.extract_tb(error.__traceback__)[-1]
        ours = [each for each in traceback.extract_tb(error.__traceback__) if "dirl" in each.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} " if ours else ""
        return "foreign", f"{type(error).__name__}: {error} ({where}{Path(at.filename).name}:{at.lineno})"
    if found == expected:
        return "right", ""
    if any(issubclass(each.category, UserWarning) for each in told):
        return "error", f"warned: {told[0].message}"
    return ("changed" if kind.checked else "undetectable"), ""


def digest_of(kind) -> bytes:
    """Digest of what a reader returns."""
    from tests.fuzz.fuzz_kinds import canonical

    return canonical(kind.read())


def table(found: list[Outcome]) -> str:
    """Outcomes by kind, as text."""
    rows: dict[str, Counter[str]] = {}
    for each in found:
        rows.setdefault(each.kind, Counter())[each.outcome] += 1
    rows["all"] = sum(rows.values(), Counter())
    width = max(map(len, rows))
    lines = [f"{'kind':{width}}  inputs " + " ".join(f"{name:>12}" for name in OUTCOMES)]
    for name, counts in rows.items():
        cells = " ".join(f"{counts[each]:12}" for each in OUTCOMES)
        lines.append(f"{name:{width}}  {counts.total():6} {cells}")
    return "\n".join(lines)


def _bound_memory() -> None:
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the system ends a loop inside a library, too
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--json", type=Path, help="also write the outcomes there")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # tifffile tells of every odd tag
    began = time.process_time()
    found = run(arguments.count, arguments.seed, arguments.only)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in found]))
    print(table(found))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.process_time() - began + children.ru_utime + children.ru_stime:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
