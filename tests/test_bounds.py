"""No test waits without a bound: what never ends fails one test, and the others run."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RUNS = {"run", "call", "check_call", "check_output"}
WAITS = {"communicate", "wait", "join", "result", "acquire"}


def unbounded(tree):
    """Lines that wait for something else for as long as it takes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of, name = node.func.value, node.func.attr
        bound = any(keyword.arg == "timeout" for keyword in node.keywords)
        ours = isinstance(of, ast.Name) and of.id == "subprocess" and name in RUNS
        # With an argument, join is that of strings or has a bound, as the others have.
        if not bound and (ours or (name in WAITS and not node.args and not node.keywords)):
            yield node.lineno


def test_no_test_waits_without_a_bound():
    found = {
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in unbounded(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


def test_a_wait_without_a_bound_is_seen():
    source = """
subprocess.run(line, check=True)
process.communicate()
thread.join()
subprocess.run(line, timeout=5)
process.wait(5)
", ".join(words)
"""
    assert list(unbounded(ast.parse(source))) == [2, 3, 4]


WAITING = """
import subprocess, sys, threading

def test_for_ever():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            threading.Event().wait()
        finally:
            process.kill()

def test_short():
    pass
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of this kind here")
def test_a_test_that_takes_too_long_fails_and_the_next_one_runs(tmp_path):
    shortened = (TESTS / "conftest.py").read_text().replace("= 900, 7200", "= 1, 7200")
    (tmp_path / "conftest.py").write_text(shortened)
    (tmp_path / "test_waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "took more than 1 seconds" in done.stdout and "1 failed, 1 passed" in done.stdout, done.stdout
