"""A signal stops any command: code, one line, no process and no part left; ignored signals stay ignored."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dirl.core import signals
from dirl.core.errors import Interrupted
from dirl.core.files import replacing
from dirl.core.parallel import each, read_ahead

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")

LINE = "error: interrupted — run the same command again to continue\n"
BEGIN = """
import sys, time
from pathlib import Path
sys.path[:0] = [{here!r}]
folder = Path({folder!r})
from dirl.core.signals import leave_at_once
leave_at_once()
{imports}
from dirl.cli.main import guarded

def command():
{body}

if __name__ == "__main__":
    guarded(command)()
"""


@pytest.fixture
def program(tmp_path: Path):
    """Start a program whose command is given, wait until it has made the file ``begun``, and end it after."""
    started = []

    def start(body: str, imports: str = "", wait: str = "begun", prefix: tuple[str, ...] = ()):
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        text = BEGIN.format(
            here=str(Path(__file__).parent), folder=str(tmp_path), imports=imports, body=lines
        )
        (tmp_path / "program.py").write_text(text)
        command = [*prefix, sys.executable, str(tmp_path / "program.py")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        until(lambda: (tmp_path / wait).exists() or process.poll() is not None)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def end(process, number: int, group: bool = True) -> tuple[int, str, float]:
    begun = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors, time.monotonic() - begun


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def write_for_ever(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        path.with_suffix(".begun").touch()
        time.sleep(600)


SLEEP = '(folder / "begun").touch()\ntime.sleep(600)'


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 130)])
def test_a_signal_is_a_code_and_a_line(program, name: str, code: int) -> None:
    assert end(program(SLEEP), getattr(signal, name))[:2] == (code, LINE)


def test_so_it_is_while_modules_are_imported(program, tmp_path: Path) -> None:
    slow = f"from pathlib import Path\nimport time\nfolder = Path({str(tmp_path)!r})\n{SLEEP}"
    (tmp_path / "slow.py").write_text(slow)
    process = program("pass", imports=f"sys.path[:0] = [{str(tmp_path)!r}]\nimport slow")
    assert end(process, signal.SIGINT)[:2] == (130, LINE)
    (tmp_path / "begun").unlink()
    process = program("import slow", imports=f"sys.path[:0] = [{str(tmp_path)!r}]")
    assert end(process, signal.SIGTERM)[:2] == (143, LINE)


def test_so_it_is_while_ctypes_converts_an_argument(program) -> None:
    """As OpenSlide's reader does at each read: ctypes turns every exception there into an ArgumentError."""
    body = """
class Slow:
    @classmethod
    def from_param(cls, value):
        (folder / "begun").touch()
        late = time.monotonic() + 1
        while time.monotonic() < late:
            pass
        return ctypes.c_int(value)

function = ctypes.pythonapi.PyLong_FromLong
function.argtypes = [Slow]
function(1)
time.sleep(600)
"""
    process = program(body, imports="import ctypes")
    assert end(process, signal.SIGINT)[:2] == (130, LINE)


def test_what_is_half_written_goes_even_where_a_module_is_imported_meanwhile(program, tmp_path: Path) -> None:
    slow = f"from pathlib import Path\nimport time\nfolder = Path({str(tmp_path)!r})\n"
    slow += '(folder / "begun").touch()\ntime.sleep(1)'
    (tmp_path / "slow.py").write_text(slow)
    body = 'with replacing(folder / "a") as part:\n    part.write_text("half")\n    import slow\n'
    body += "    time.sleep(600)"
    process = program(
        body, imports=f"sys.path[:0] = [{str(tmp_path)!r}]\nfrom dirl.core.files import replacing"
    )
    code, said, seconds = end(process, signal.SIGINT)
    assert (code, said) == (130, LINE) and seconds < 5
    assert parts(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code", "group"),
    [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)],
    ids=["terminal", "alone"],
)
def test_workers_end_at_once_and_remove_their_parts(program, tmp_path: Path, number, code, group) -> None:
    body = "from test_signals import write_for_ever\nfrom dirl.core.parallel import each\n"
    body += 'list(each(write_for_ever, [folder / "a", folder / "b"], 2))'
    process = program(body, wait="a.begun")
    assert until((tmp_path / "b.begun").exists)
    assert end(process, number, group)[:2] == (code, LINE)
    assert until(lambda: not alive(process.pid), 10)
    assert {path.name for path in tmp_path.iterdir()} >= {"a.begun", "b.begun"} and parts(tmp_path) == []


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_what_swallows_the_signal_is_ended_all_the_same(program) -> None:
    body = 'try:\n    (folder / "begun").touch(); time.sleep(600)\nexcept BaseException:\n    time.sleep(600)'
    code, errors, seconds = end(program(body), signal.SIGTERM)
    assert (code, errors) == (143, LINE) and seconds < 5 + 10


def test_a_signal_that_comes_while_an_object_is_cleared_away_is_not_lost(program) -> None:
    body = 'class Slow:\n    def __del__(self):\n        (folder / "begun").touch(); time.sleep(600)\n'
    body += "Slow()\ntime.sleep(600)"
    code, errors, seconds = end(program(body), signal.SIGINT)
    assert (code, errors) == (130, LINE) and seconds < signals.GRACE_S


def test_so_is_what_waits_in_a_library_where_no_handler_runs(program) -> None:
    body = "import ctypes\nlibrary, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
    body += 'library.pthread_mutex_lock(mutex)\n(folder / "begun").touch()\nlibrary.pthread_mutex_lock(mutex)'
    code, errors, seconds = end(program(body), signal.SIGINT)
    assert (code, errors) == (130, LINE) and seconds < 5 + 10


def test_workers_of_a_killed_parent_end(program, tmp_path: Path) -> None:
    body = "from test_signals import write_for_ever\nfrom dirl.core.parallel import each\n"
    body += 'list(each(write_for_ever, [folder / "a", folder / "b"], 2))'
    process = program(body, wait="a.begun")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert until(lambda: not alive(process.pid), 30)


def test_a_rank_whose_first_rank_has_ended_ends() -> None:
    command = [sys.executable, "-m", "dirl", "--version"]
    for first, said in (("1", b""), (str(os.getpid()), b"dirl")):
        environment = os.environ | {signals.FIRST_RANK: first}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        assert done.returncode == 0 and done.stdout.startswith(said) and bool(done.stdout) == bool(said)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_what_the_parent_ignores_stays_ignored(program, name: str) -> None:
    process = program(SLEEP, prefix=("sh", "-c", f'trap "" {name[3:]}; exec "$@"', "sh"))
    os.kill(process.pid, getattr(signal, name))
    time.sleep(0.3)
    assert process.poll() is None
    assert end(process, signal.SIGTERM)[:2] == (143, LINE)


def interrupt(item: int) -> int:
    if item == 1:
        raise Interrupted(15)
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_part_is_no_result(workers: int) -> None:
    with pytest.raises(Interrupted):
        list(each(interrupt, range(3), workers))
    with pytest.raises(Interrupted):
        list(read_ahead(interrupt, range(3), 1, 1))


def test_handlers_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in signals.STOPPING]
    with signals.stopping():
        assert all(signal.getsignal(number) is signals._stop for number in signals.STOPPING)
    assert [signal.getsignal(number) for number in signals.STOPPING] == before

    def elsewhere() -> None:  # where no handler may be set
        with signals.stopping(), signals.raising_stop():
            pass

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
