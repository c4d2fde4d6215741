"""Every stage on a disk that fills up: at points spread over what it writes, and with files cut short.

As root, on Linux: a tmpfs is mounted, and made as small as each point needs. Each stage runs in a forked
process as the command does. It must end with exit code 1 and one line that names path and remedy. It must
leave no part of a file. With free space, the same call must then write the same as an undisturbed one.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import write

import dirl
import dirl.evaluate.probe.linear
from dirl import synthetic
from dirl.cli.main import guarded
from dirl.config import (
    AuditConfig,
    CellsConfig,
    FinetuneConfig,
    MapConfig,
    MilConfig,
    PretrainRecipe,
    ProbeConfig,
    RobustConfig,
    TileConfig,
    make,
)
from dirl.core.digests import sha256
from dirl.core.owner import content
from dirl.features.feature_files import write_rows

POINTS, CUTS = 20, 5
ROOMY_MIB = 256
LIMIT_S = 180
# Cards and names of event files hold times; a state holds how often it was gone on from. The weights are in
# model.safetensors.
VARYING = ("card.json", "events.out", "last.ckpt")
REMEDY = ("free some space", "ulimit -f")
PRETRAIN = {
    "steps": 6, "batch": 8, "checkpoint_every_steps": 2, "log_every_steps": 1, "views": {"size_px": 32},
    "encoder": {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 32, "depth": 2, "heads": 2},
    "objective": {"name": "simclr", "hidden_width": 16, "output_width": 8},
}  # fmt: skip
STUDY = {
    "recipe": "demo", "set": PRETRAIN, "objectives": {"simclr": {}}, "seeds": [0],
    "arms": {"vanilla": {"dense.weight": 0}, "pool": {}}, "contrasts": [["pool", "vanilla"]],
    "audit": {"tiles": 8, "bootstrap": 20, "figures": 0},
}  # fmt: skip
Stage = Callable[[Path], object]


@dataclass(frozen=True)
class Outcome:
    """How a forked run ended: its exit code (negative: the signal), and what it printed as errors."""

    code: int
    errors: str


def main() -> None:
    """Fill the disk for all stages, or for those that are named."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("stages", nargs="*")
    options.add_argument("--points", type=int, default=POINTS)
    options.add_argument("--cuts", type=int, default=CUTS)
    asked = options.parse_args()
    torch.set_num_threads(1)
    dirl.evaluate.probe.linear.COSTS = np.array([0.01, 1.0])
    with tempfile.TemporaryDirectory() as folder, _tmpfs(Path(folder) / "small") as disk:
        inputs = Path(folder) / "inputs"
        stages = _stages(inputs)
        chosen = {name: stages[name] for name in asked.stages or stages}
        results = {}
        for name, stage in chosen.items():
            results[name] = _try_stage(name, stage, disk, inputs, asked.points, asked.cuts)
            print(name, json.dumps(results[name]), flush=True)
            write("full_disk", {"points": asked.points, "cuts": asked.cuts, "stages": results})


def _stages(inputs: Path) -> dict[str, Stage]:
    """Make what the stages read, and name them; each takes the folder that it is to write to."""
    slide, store = inputs / "slide.tif", inputs / "store"
    run, features, bags, probed = (inputs / name for name in ("run", "features", "bags", "probed"))
    recipe = make(PretrainRecipe, PRETRAIN)
    tiling = TileConfig(size_px=64, min_tissue=0.3)
    quiet: dict[str, Any] = {"quiet": True}
    study = make(dirl.StudyConfig, STUDY)

    def prepare() -> None:
        synthetic.write(slide, seed=1, size_px=(512, 512))
        dirl.tile([slide], store, tiling, **quiet)
        dirl.cells(store, CellsConfig(), **quiet)
        dirl.pretrain(recipe, store, run, device="cpu", **quiet)
        dirl.embed(str(run), store, features, device="cpu", **quiet)
        _draw_bags(bags)
        ids = dirl.TileStore.open(store).tile_ids.tolist()
        lines = [f"{name},{'ab'[i % 2]},p{i % 9}" for i, name in enumerate(ids)]
        (inputs / "tiles.csv").write_text("\n".join(["tile_id,label,group", *lines]) + "\n")
        dirl.probe(features, str(inputs / "tiles.csv"), probed, PROBE, **quiet)

    made = _forked(prepare)
    if made.code:
        sys.exit(f"the inputs cannot be made: {made.errors}")

    def cells(out: Path) -> object:
        _bring_store(inputs, out)
        return dirl.cells(out, CellsConfig(), **quiet)

    labels = str(inputs / "tiles.csv")
    return {
        "tile": lambda out: dirl.tile([slide], out, tiling, **quiet),
        "cells": cells,
        "cells-report": lambda out: dirl.cells_report(store, out, tiles=2, **quiet),
        "cells-export": lambda out: dirl.cells_export(store, out, **quiet),
        "pretrain": lambda out: dirl.pretrain(recipe, store, out, device="cpu", **quiet),
        "embed": lambda out: dirl.embed(str(run), store, out, device="cpu", **quiet),
        "map": lambda out: dirl.map_slide(str(run), slide, out, MapConfig(size_px=64), device="cpu", **quiet),
        "audit": lambda out: dirl.audit([str(run)], store, out, AUDIT, device="cpu", **quiet),
        "probe": lambda out: dirl.probe(features, labels, out, PROBE, **quiet),
        "finetune": lambda out: dirl.finetune(str(run), store, labels, out, FINETUNE, device="cpu", **quiet),
        "mil": lambda out: dirl.mil(bags, bags / "slides.csv", out, MIL, **quiet),
        "robust": lambda out: dirl.robust(str(run), store, labels, out, ROBUST, device="cpu", **quiet),
        "compare": lambda out: dirl.compare([probed], out),
        "export": lambda out: dirl.export(run, out, to="timm"),
        "study": lambda out: dirl.study(study, store, out, device="cpu", **quiet),
    }


AUDIT = AuditConfig(tiles=8, bootstrap=20, figures=1)
PROBE = ProbeConfig(bootstrap=20, folds=3)
FINETUNE = FinetuneConfig(epochs=1, folds=2, bootstrap=20, learning_rates=(1e-3,))
MIL = MilConfig(
    folds=2, inner_folds=2, models=("mean", "abmil"), epochs=2, learning_rates=(0.005,), bootstrap=20
)
ROBUST = RobustConfig(bootstrap=20, folds=2, damage=("jpeg",), severities=(3,))


def _draw_bags(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(12):
        values = generator.normal(i % 2, 1, size=(6, 8)).astype(np.float32)
        corners = np.stack([np.arange(6), np.zeros(6)], axis=1).astype(np.int64)
        write_rows(folder / f"s{i:02d}.h5", {"features": values, "coords": corners})
    lines = [f"s{i:02d},{'ab'[i % 2]},p{i:02d}" for i in range(12)]
    (folder / "slides.csv").write_text("\n".join(["slide_id,label,patient_id", *lines]) + "\n")


def _try_stage(name: str, stage: Stage, disk: Path, inputs: Path, points: int, cuts: int) -> dict[str, Any]:
    """Run a stage undisturbed, then at every point, and count what came of it."""
    out = disk / name
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for found in (first, second):
        _clear(disk)
        with _watched(disk) as used:
            whole = _forked(lambda: stage(out))
        if whole.code:
            return {"undisturbed": whole.errors.strip()[-300:]}
        found |= _content(out)
    stable = {file: value for file, value in first.items() if second.get(file) == value}
    base = 0
    if name == "cells":
        base = sum(path.stat().st_blocks * 512 for path in (inputs / "store").rglob("*") if path.is_file())
        base -= sum(p.stat().st_blocks * 512 for p in (inputs / "store" / "cells").rglob("*") if p.is_file())
    largest = max(path.stat().st_size for path in content(out))
    tries = [("full", base + (i + 0.5) / points * (used.peak - base)) for i in range(points)]
    tries += [("cut", (i + 0.5) / cuts * largest) for i in range(cuts)]
    counts = dict.fromkeys(
        ("refused", "fitted", "wrong code", "no path or remedy", "traceback", "parts left", "crash or hang",
         "not taken up", "other result"), 0,
    )  # fmt: skip
    faults = []
    for how, size in tries:
        _clear(disk)
        outcome = _disturbed(stage, out, disk, how, int(size))
        fault = "fitted" if outcome.code == 0 else _judge(outcome, disk)
        counts[fault] += 1
        if fault not in ("refused", "fitted"):
            faults.append({"how": how, "bytes": int(size), "fault": fault, "said": outcome.errors[-300:]})
        _resize(disk, ROOMY_MIB << 20)
        again = _forked(lambda: stage(out))
        made = _content(out) if out.exists() else {}
        other = [file for file, value in stable.items() if made.get(file) != value]
        other += [file for file in made if file not in first]
        if again.code or other:
            fault = "not taken up" if again.code else "other result"
            counts[fault] += 1
            said = again.errors[-300:] if again.code else ", ".join(other)[:300]
            faults.append({"how": how, "bytes": int(size), "fault": fault, "said": said})
    return {
        "bytes": used.peak - base,
        "files": len(first),
        "compared": len(stable),
        "tries": len(tries),
        **counts,
        "faults": faults[:10],
    }


def _judge(outcome: Outcome, disk: Path) -> str:
    lines = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    if outcome.code < 0:
        return "crash or hang"
    if outcome.code != 1:
        return "wrong code"
    if "Traceback" in outcome.errors:
        return "traceback"
    if len(lines) != 1 or str(disk) not in lines[0] or not any(text in lines[0] for text in REMEDY):
        return "no path or remedy"
    return "parts left" if list(disk.rglob("*.part")) else "refused"


def _disturbed(stage: Stage, out: Path, disk: Path, how: str, size: int) -> Outcome:
    def limited() -> object:
        if how == "cut":
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return stage(out)

    if out.name == "cells":
        _bring_store(disk.parent / "inputs", out)
    if how == "full":
        _resize(disk, max(4096, size))
    return _forked(limited)


def _bring_store(inputs: Path, out: Path) -> None:
    """Copy the store in which cells are found: it is on the small disk, and is no part of the output."""
    if not out.exists():
        shutil.copytree(inputs / "store", out, ignore=shutil.ignore_patterns("cells"))


def _forked(function: Callable[[], object]) -> Outcome:
    """Run a function as a command is run, in a process of its own that has all modules already."""
    with tempfile.TemporaryFile() as told:
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
            code = 1
            try:
                command: Any = function
                guarded(command)()
                code = 0
            except SystemExit as left:
                code = int(left.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        ends = time.monotonic() + LIMIT_S
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
                done = os.waitpid(pid, 0)
                break
            time.sleep(0.02)
        told.seek(0)
        return Outcome(os.waitstatus_to_exitcode(done[1]), told.read().decode(errors="replace"))


def _content(out: Path) -> dict[str, str]:
    """Digests of all files of an output and of those that lie in it, but for what varies."""
    files = [path for path in content(out) if not path.name.startswith(VARYING)]
    return {str(path.relative_to(out)): sha256(path) for path in files}


@contextlib.contextmanager
def _tmpfs(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY_MIB}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={-(-size // 4096) * 4096}", disk], check=True)


def _clear(disk: Path) -> None:
    for path in disk.iterdir():
        shutil.rmtree(path)
    _resize(disk, ROOMY_MIB << 20)


@dataclass
class _Used:
    peak: int = 0


@contextlib.contextmanager
def _watched(disk: Path) -> Iterator[_Used]:
    """The most bytes that are used on the disk while the block runs."""
    used, over = _Used(), threading.Event()

    def watch() -> None:
        while True:
            found = os.statvfs(disk)
            used.peak = max(used.peak, (found.f_blocks - found.f_bfree) * found.f_frsize)
            if over.wait(0.002):
                return

    thread = threading.Thread(target=watch)
    # The process forks in the block: the thread is the parent's alone, and holds no lock.
    thread.start()
    try:
        yield used
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
