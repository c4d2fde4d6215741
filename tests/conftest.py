"""Fixtures that several test files share."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch counts the cores, which the other workers use
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from dirl import synthetic
from dirl.config import PretrainRecipe, TileConfig, make
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells

# No test may fail because the machine is busy.
hypothesis.settings.register_profile("dirl", deadline=None)
hypothesis.settings.load_profile("dirl")

# Seconds that a test may take on the slowest machine; a slow one. Then it fails, wherever it waits.
LONGEST_S, LONGEST_SLOW_S = 900, 7200
AGAIN_S = 5  # it is interrupted again, in case it waits for something else while it ends


def pytest_configure():
    """Let what tests start hear Ctrl-C and SIGHUP, which `nohup make test &` has every process ignore.

    A signal that is handled, if only by a function that does nothing, is not ignored in a program that is
    started; these tests go on as the shell wants.
    """
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # no SIGHUP on Windows
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@contextmanager
def bounded(item: pytest.Item) -> Iterator[None]:
    """Fail a test that waits for ever: for a process, a lock, a queue."""

    def fail(number: int, frame: object) -> None:
        pytest.fail(f"took more than {longest} seconds")  # no Exception: nothing swallows it

    longest = LONGEST_S if item.get_closest_marker("slow") is None else LONGEST_SLOW_S
    if not hasattr(signal, "setitimer"):  # not on Windows
        yield
        return
    earlier = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, longest, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    with bounded(item):
        return (yield)


RECIPE = {
    "steps": 6,
    "batch": 8,
    "checkpoint_every_steps": 2,
    "log_every_steps": 1,
    "views": {"size_px": 32},
    "encoder": {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 32, "depth": 2, "heads": 2},
    "objective": {"hidden_width": 16, "output_width": 8},
}


def pytest_addoption(parser):
    """Let `make test ARGS="tests/fuzz --fuzz 20000"` read more damaged files than the default tests do."""
    parser.addoption("--fuzz", type=int, default=2000, help="how many damaged files tests/fuzz reads")
    parser.addoption("--fuzz-seed", type=int, default=0, help="what they are drawn from")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real slides and tiles; the test is skipped where there is none."""
    named = os.environ.get("DIRL_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: set DIRL_DATA to its folder, or put it at ../shared/data")
    return folder


@pytest.fixture(scope="session", autouse=True)
def same_precision_on_every_cpu():
    """Let no CPU have bf16, so that ``auto`` gives the same numbers on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dirl.core.precision.cpu_has_bf16", lambda: False)
        yield


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """Tiles of 64 px of a synthetic slide of 512 px, with the true nuclei as ``hematoxylin``."""
    folder = tmp_path_factory.mktemp("small")
    slide = synthetic.write(folder / "slide.tif", seed=1, size_px=(512, 512))
    config = TileConfig(size_px=64, min_tissue=0.3)
    store = tile([folder / "slide.tif"], folder / "store", config, quiet=True)
    index = store.index.select(["tile_id", "x", "y"]).to_pylist()

    def items():
        for row in index:
            labels = slide.labels[row["y"] : row["y"] + 64, row["x"] : row["x"] + 64]
            yield row["tile_id"], labels, np.where(labels > 0, 1, 2).astype(np.uint8)

    path = cells_dir(store.path, "hematoxylin")
    card = claim(path, new_card("cells", {}))
    pixels = np.bincount(slide.labels.ravel())
    ids = np.flatnonzero(pixels[1:]) + 1
    nothing = np.zeros(len(ids), np.float32)
    nuclei = {"id": ids, "x": nothing, "y": nothing, "area_um2": pixels[ids] * config.mpp**2}
    nuclei["touches_border"] = nothing > 0
    write_cells(store.path, "hematoxylin", "slide", items(), nuclei)
    merge_cells(store.path, "hematoxylin")
    finish(path, card, {})
    return store.path


@pytest.fixture(scope="session")
def recipe() -> PretrainRecipe:
    """Six steps of a tiny DiRL."""
    return make(PretrainRecipe, RECIPE)
