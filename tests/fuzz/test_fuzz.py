"""Damaged files of every kind end in a clear error or in the result of the whole file, in nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

SECONDS_EACH = 3  # on a busy machine; an idle one takes a hundredth of it


def test_no_damaged_file_hangs_crashes_or_is_read_wrongly(request, tmp_path, capsys):
    count, seed = (request.config.getoption(name) for name in ("--fuzz", "--fuzz-seed"))
    command = [sys.executable, "-m", "tests.fuzz.fuzz_run", str(count), str(seed)]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "found.json")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120 + SECONDS_EACH * count,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # its children are forked
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if count > 2000:  # asked for
        with capsys.disabled():
            print(f"\n{done.stdout}")
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == count
    wrong = [each for each in found if each["outcome"] in ("foreign", "hang", "changed")]
    told = "\n".join(
        f"{w['kind']}, {w['damage']} {w['number']}: {w['outcome']} {w['words'][:300]}" for w in wrong
    )
    assert not wrong, f"seed {seed}:\n{told}\n{done.stdout}"
    # The damage is real: most of it is seen.
    assert sum(each["outcome"] == "error" for each in found) > count / 2
