"""Whatever refuses a write, and wherever, the file is named and nothing half-written stays."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tifffile
import torch
from safetensors.torch import save_file

from dirl.cells.quality.picture import draw_nuclei
from dirl.core.errors import MachineError, NoRoomError, StoreError
from dirl.core.files import no_room, replacing, write_json
from dirl.features.feature_files import write_rows
from dirl.maps.blend import array_on_disk
from dirl.pretrain.loggers import MetricsCsv
from dirl.store.index import write_parquet
from dirl.store.shards import ShardWriter

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What libraries raise on a full disk, as far as they keep the system's words.
RAISED = [
    (FULL, NoRoomError, "no space left on the disk"),
    (OSError(errno.EDQUOT, "quota"), NoRoomError, "quota is used up"),
    (OSError(errno.EFBIG, "large"), NoRoomError, "larger than this system allows"),
    (OSError(errno.EIO, "eio"), MachineError, "the disk or the network failed"),
    (
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        NoRoomError,
        "no space",
    ),
    (RuntimeError("Can't close: write failed: error message = 'Disk quota exceeded'"), NoRoomError, "quota"),
    (ValueError('IoError(Os { code: 28, kind: StorageFull, message: "…" })'), NoRoomError, "no space"),
    (OSError("4096 requested and 1024 written"), MachineError, "could not be written completely"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0"), MachineError, "written completely"),
    (OSError("encoder error -2 when writing image file"), MachineError, "could not be written completely"),
]


@pytest.mark.parametrize(("raised", "kind", "words"), RAISED)
def test_a_refused_write_names_the_file_and_what_to_do(tmp_path, raised, kind, words):
    with pytest.raises(kind, match=words) as caught, replacing(tmp_path / "a.h5") as temporary:
        temporary.write_bytes(b"half")
        raise raised
    error = caught.value
    assert error.exit_code == 1 and str(error.where) == str(tmp_path / "a.h5")
    assert "run the same command again" in error.remedy and no_room(error) == (kind is NoRoomError)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_was_raised_from_a_refusal_is_one(tmp_path):
    with pytest.raises(NoRoomError), replacing(tmp_path / "a"):
        try:
            raise FULL
        except OSError as error:
            raise RuntimeError("the writer failed") from error


def test_any_failure_on_a_full_disk_is_one_of_room(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=0, f_frsize=4096))
    with pytest.raises(NoRoomError, match="no space left"), replacing(tmp_path / "a"):
        raise KeyError("what a library makes of it")


def test_what_has_nothing_to_do_with_the_disk_passes(tmp_path):
    for raised in (KeyError("a"), ValueError("b"), StoreError("c"), FileNotFoundError(2, "d", "in.svs")):
        with pytest.raises(type(raised)) as caught, replacing(tmp_path / "a"):
            raise raised
        assert caught.value is raised
    with pytest.raises(PermissionError) as refused, replacing(tmp_path / "a") as temporary:
        raise PermissionError(errno.EACCES, "no", str(temporary))
    assert refused.value.filename == str(tmp_path / "a")  # not the temporary name


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.mkdir"])
def test_each_step_of_a_write_may_be_refused(tmp_path, monkeypatch, call):
    def refuse(*_, **__):
        raise FULL

    monkeypatch.setattr(call, refuse)
    with pytest.raises(NoRoomError, match=r"a\.json: no space left on the disk — free some space"):
        write_json(tmp_path / "a.json", {})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


VALUES = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)


def _tar(path):
    with replacing(path) as temporary, ShardWriter(temporary) as tar:
        tar.add("a", VALUES.tobytes())


def _tiff(path):
    with replacing(path) as temporary, tifffile.TiffWriter(temporary) as tiff:
        tiff.write(VALUES)


def _weights(path):
    with replacing(path) as temporary:
        save_file({"a": torch.from_numpy(VALUES)}, temporary)


def _metrics(path):
    log = MetricsCsv(path, 0)
    for step in range(2000):
        log.log_metrics({"loss": 0.123456}, step)


WRITERS = {
    "HDF5": lambda path: write_rows(path, {"features": VALUES, "coords": np.zeros((64, 2), np.int64)}),
    "Parquet": lambda path: write_parquet(path, pa.table({"a": VALUES.ravel()})),
    "PNG": lambda path: draw_nuclei(path, [noise()], [np.zeros((64, 64), np.int32)]),
    "JSON": lambda path: write_json(path, VALUES.tolist()),
    "tar": _tar,
    "TIFF": _tiff,
    "safetensors": _weights,
    "array": lambda path: array_on_disk(path, (64, 64)),
    "metrics.csv": _metrics,
}


def noise():
    return np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)


@contextmanager
def files_of_at_most(size: int):
    """What the system does where a file may grow no larger; Python ignores the signal that goes with it."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_may_be_cut_short_by_the_system(tmp_path, kind):
    path = tmp_path / "made"
    with pytest.raises(MachineError) as caught, files_of_at_most(2048):
        WRITERS[kind](path)
    assert str(caught.value.where) == str(path) and caught.value.remedy
    assert [left.name for left in tmp_path.iterdir()] in ([], ["made"] if kind == "metrics.csv" else [])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a tmpfs is root's to mount")
def test_stages_on_a_small_disk(tmp_path):
    script = Path(__file__).parents[1] / "benchmarks" / "full_disk.py"
    folder = shutil.copytree(script.parent, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("results"))
    asked = [sys.executable, str(folder / script.name), "tile", "embed", "--points", "3", "--cuts", "1"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=600, check=False)
    if "mount" in done.stderr and done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    assert done.returncode == 0 and done.stdout.count('"refused": 4') == 2, done.stdout + done.stderr
