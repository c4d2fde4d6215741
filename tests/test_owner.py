"""One owner a directory: others are refused with whose it is, and a dead owner leaves it free."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dirl.core.card import finish, new_card, read_card
from dirl.core.claim import claim
from dirl.core.errors import InUseError, NoRoomError, StoreError
from dirl.core.layout import ITEM_LOCKS, LOCK, part_of
from dirl.core.owner import item_locked, locked, own, owning, refuse_if_items_locked

HOLD = """
import sys, time
from pathlib import Path
from dirl.core.owner import item_locked, locked
with {what}:
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start another process that owns a directory, or an item of it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(directory, what="locked(Path(sys.argv[1]))"):
        ready = tmp_path / f"ready{len(started)}"
        command = [sys.executable, "-c", HOLD.format(what=what), str(directory), str(ready)]
        started.append(subprocess.Popen(command))
        for _ in range(600):
            if ready.exists():
                return started[-1]
            time.sleep(0.05)
        raise AssertionError("the other process did not start")

    yield start
    for process in started:
        process.kill()
        process.wait(10)


@owning
def stage(out: Path, body=lambda: None, **how) -> None:
    card = claim(out, new_card("audit", {}), **how)
    if not card.finished:
        body()
        finish(out, card, {})


def test_a_second_process_is_refused_with_whose_it_is_and_a_dead_owner_is_followed(tmp_path, holder):
    out = tmp_path / "out"
    other = holder(out)
    with pytest.raises(InUseError, match=rf"in use by process {other.pid} on .+, since 20\d\d-") as caught:
        stage(out)
    assert caught.value.exit_code == 1 and caught.value.where == out
    assert not (out / "card.json").exists()
    other.send_signal(signal.SIGKILL)
    other.wait(10)
    stage(out)
    assert read_card(out, "audit").finished
    assert {path.name for path in out.iterdir()} == {"card.json"}


def test_a_stage_owns_until_it_ends_and_no_longer(tmp_path):
    out = tmp_path / "out"

    def second():
        with pytest.raises(InUseError, match=f"process {os.getpid()}"):
            stage(out)
        raise ValueError("the first fails")

    with pytest.raises(ValueError, match="the first fails"):
        stage(out, second)
    stage(out)  # the failed one has let go
    stage(out, second)  # finished: only read


def test_a_finished_directory_is_read_while_another_process_owns_it(tmp_path, holder):
    stage(tmp_path / "out")
    holder(tmp_path / "out")
    stage(tmp_path / "out")
    with pytest.raises(InUseError):
        stage(tmp_path / "out", overwrite=True)


def test_stages_within_a_stage_own_directories_of_their_own(tmp_path):
    def inner():
        stage(tmp_path / "out" / "inner")
        with pytest.raises(InUseError):
            stage(tmp_path / "out")

    stage(tmp_path / "out", inner)


def test_what_a_killed_process_left_before_its_first_card_is_taken_up(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).touch()
    part_of(out / "card.json").write_text("{")
    stage(out)
    assert {path.name for path in out.iterdir()} == {"card.json"}


def test_parts_of_dead_owners_go_and_results_within_are_left_alone(tmp_path):
    out, run = tmp_path / "out", tmp_path / "out" / "runs" / "a"
    (out / "figures").mkdir(parents=True)
    stage(run)
    theirs = part_of(run / "x.json")
    mine = [part_of(out / "summary.json"), part_of(out / "figures" / "a.png")]
    folder = part_of(out / "encoder")
    folder.mkdir()
    for part in (*mine, theirs, folder / "model"):
        part.touch()

    @owning
    def take():
        own(out)

    take()
    assert not any(part.exists() for part in (*mine, folder)) and theirs.exists()


def test_items_are_owned_one_by_one(tmp_path, holder):
    other = holder(tmp_path, 'item_locked(Path(sys.argv[1]), "one")')
    with item_locked(tmp_path, "two"), locked(tmp_path):
        pass
    with pytest.raises(InUseError, match=f"one: in use by process {other.pid}"), item_locked(tmp_path, "one"):
        pass
    with pytest.raises(InUseError, match=f"process {other.pid}"):
        refuse_if_items_locked(tmp_path)
    with pytest.raises(StoreError, match="leads out"), item_locked(tmp_path, "../one"):
        pass


def test_a_damaged_note_of_the_owner_does_not_matter(tmp_path, holder):
    holder(tmp_path / "out")
    for content in ("", "[]", "{", json.dumps({"pid": 1})):
        (tmp_path / "out" / ".owner.json").write_text(content)
        with pytest.raises(InUseError, match="in use by another process"):
            stage(tmp_path / "out")


def test_many_processes_and_one_owner_at_a_time(tmp_path):
    code = """
import sys
from pathlib import Path
from dirl.core.owner import locked
count = Path(sys.argv[1]) / "count"
for _ in range(40):
    with locked(Path(sys.argv[1]), 60):
        count.write_text(str(int(count.read_text()) + 1))
"""
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "160"
    assert {path.name for path in tmp_path.iterdir()} == {"count"}


def test_an_item_takes_away_what_a_dead_owner_of_it_left(tmp_path: Path) -> None:
    (tmp_path / ITEM_LOCKS).mkdir()
    dead = part_of(tmp_path / ITEM_LOCKS / "a.json")
    dead.touch()
    with item_locked(tmp_path, "a"):
        assert not dead.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_without_a_file_names_the_directory(tmp_path: Path, number: int) -> None:
    @owning
    def write() -> None:
        own(tmp_path)
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoRoomError, match=re.escape(str(tmp_path))):
        write()


def test_a_claim_of_a_shared_directory_removes_files_of_dead_owners_only(tmp_path):
    out = tmp_path / "out"

    @owning
    def share() -> None:
        claim(out, new_card("cells", {}), shared=True)

    share()
    dead = part_of(out / "dead.tar")
    dead.touch()
    share()
    assert not dead.exists()
    with item_locked(out, "slide"):
        live = part_of(out / "slide.tar")
        live.touch()
        share()
        assert live.exists(), "its owner is at work"
    share()
    assert not live.exists()
