"""Stages for `kills.py` to interrupt, on inputs so small that each takes seconds."""

import csv
import hashlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENCODER = {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 32, "depth": 2, "heads": 2}
RECIPE: dict[str, Any] = {
    "steps": 16,
    "batch": 8,
    "checkpoint_every_steps": 4,
    "log_every_steps": 1,
    "views": {"size_px": 32},
    "encoder": ENCODER,
    "objective": {"hidden_width": 16, "output_width": 8},
}
# A demo of seconds: a drawn slide, small encoders, few steps.
DEMO = ["steps=4", "batch=8", "encoder.depth=2", "encoder.width=32", "encoder.heads=2", "holdout=0.4"]
DEMO_PX = (1024, 1024)
# What may differ between two uninterrupted runs: when they ran, for how long, and of which commit.
TIMES = {"started", "git_commit", "finished", "seconds", "seconds_mean", "seconds_sd"}
# Digests of files that hold such times; each file is compared itself.
TIMES |= {"files", "digest_of_card", "sha256"}
WHEN = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(\+\d\d:\d\d)?")


@dataclass(frozen=True)
class Stage:
    """A stage that can be interrupted.

    Attributes
    ----------
    run
        Does the work in a folder that holds the inputs.
    needs
        Names of the inputs that it is given, copies of what `make_inputs` makes.
    modules
        Modules to import before the process is forked.
    share
        Its part of all kills.
    """

    run: Callable[[Path], object]
    needs: tuple[str, ...]
    modules: tuple[str, ...]
    share: float = 1.0


def make_inputs(folder: Path, names: set[str]) -> None:
    """Make the inputs of that name, and what they need."""
    from dirl import synthetic

    if names & {"slides", "tiled", "store", "run"}:
        (folder / "slides").mkdir()
        for seed, name in enumerate("ab"):
            synthetic.write(folder / "slides" / f"{name}.tif", seed=seed, size_px=(512, 512))
    for name in ("tiled", "store"):
        if names & {name, *(["store"] if name == "tiled" else []), "run"}:
            _tile(folder, name)
    if names & {"store", "run"}:
        _cells(folder, "store")
    if "run" in names:
        _pretrain(folder, "run")
    if "bags" in names:
        _write_bags(folder / "bags")


def _tile(folder: Path, name: str = "out", workers: int = 1) -> None:
    from dirl.config import TileConfig
    from dirl.store.build import tile

    config = TileConfig(size_px=64, min_tissue=0.3)
    tile([folder / "slides"], folder / name, config, workers=workers, quiet=True)


def _cells(folder: Path, name: str = "tiled", workers: int = 1) -> None:
    from dirl.cells.run import cells
    from dirl.config import CellsConfig

    cells(folder / name, CellsConfig(), workers=workers, quiet=True)


def _pretrain(folder: Path, name: str = "out") -> None:
    from dirl.config import PretrainRecipe, make
    from dirl.pretrain.run import pretrain

    pretrain(make(PretrainRecipe, RECIPE), folder / "store", folder / name, device="cpu", quiet=True)


def _pretrain_by_two(folder: Path) -> None:
    """By the program, since Lightning starts the second rank by running the first one's program again."""
    import yaml

    from dirl.cli.main import main

    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("dirl.__main__")
    sys.argv = ["dirl", "pretrain", str(folder / "recipe.yaml"), "--store", str(folder / "store"), "--quiet"]
    sys.argv += ["--out", str(folder / "out"), "--device", "cpu", "--devices", "2"]
    main()


def _study(folder: Path, parallel: int | None = None) -> None:
    from dirl.config import AuditConfig
    from dirl.study.matrix import StudyConfig
    from dirl.study.run import study

    config = StudyConfig(
        recipe="demo",
        set=RECIPE | {"steps": 6, "objective": {"name": "simclr", **RECIPE["objective"]}},
        objectives={"simclr": {}},
        arms={"vanilla": {"dense.weight": 0}, "pool": {}},
        seeds=(0,),
        contrasts=(("pool", "vanilla"),),
        audit=AuditConfig(tiles=8, bootstrap=20, figures=0),
    )
    study(config, folder / "store", folder / "out", device="cpu", parallel=parallel, quiet=True)


def _embed(folder: Path) -> None:
    from dirl.features.embed import embed

    embed(str(folder / "run"), folder / "store", folder / "out", device="cpu", quiet=True)


def _map(folder: Path) -> None:
    from dirl.config import MapConfig
    from dirl.maps.run import map_slide

    config = MapConfig(size_px=64, heads="each")
    map_slide(
        str(folder / "run"), folder / "slides" / "a.tif", folder / "out", config, device="cpu", quiet=True
    )


def _audit(folder: Path) -> None:
    from dirl.audit.run import audit
    from dirl.config import AuditConfig

    config = AuditConfig(tiles=12, bootstrap=20, figures=1)
    audit([str(folder / "run")], folder / "store", folder / "out", config, device="cpu", quiet=True)


def _mil(folder: Path) -> None:
    from dirl.config import MilConfig
    from dirl.evaluate.mil.run import mil

    config = MilConfig(
        folds=3, inner_folds=2, models=("mean", "abmil"), width=8, epochs=8, learning_rates=(0.02,)
    )
    mil(folder / "bags", folder / "bags" / "slides.csv", folder / "out", config, quiet=True)


def _demo(folder: Path) -> None:
    from dirl import synthetic
    from dirl.config import load_recipe

    story: Any = importlib.import_module("dirl.demo")
    draw = synthetic.write
    story.load_recipe = lambda name, overrides: load_recipe(name, [*DEMO, *overrides])
    story._download = _no_network
    story.synthetic.write = lambda path, seed: draw(path, seed, DEMO_PX)
    story.demo(out=folder / "out", quiet=True)


def _no_network(url: str, target: Path, **how: Any) -> None:
    raise OSError("no network here")


def _write_bags(folder: Path) -> None:
    import h5py
    import numpy as np

    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["slide_id,label,patient_id"]
    for i in range(24):
        count = int(generator.integers(6, 14))
        with h5py.File(folder / f"s{i:02d}.h5", "w") as handle:
            handle["features"] = generator.normal(size=(count, 5)).astype(np.float32)
            handle["coords"] = np.stack([224 * np.arange(count), np.full(count, 448)], axis=1)
        lines.append(f"s{i:02d},{('benign', 'tumour')[i % 2]},p{i % 2 * 6 + i // 2 % 6}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n")


LEARNS = ("dirl.pretrain.run", "lightning.pytorch", "torch.utils.tensorboard")
AUDITS = ("dirl.audit.run", "dirl.audit.figures", "sklearn.linear_model", "matplotlib.pyplot")
STAGES = {
    "tile": Stage(_tile, ("slides",), ("dirl.store.build",)),
    "tile, 2 workers": Stage(lambda folder: _tile(folder, workers=2), ("slides",), (), 0.4),
    "cells": Stage(_cells, ("slides", "tiled"), ("dirl.cells.run", "dirl.cells.segmenters.hematoxylin")),
    "cells, 2 workers": Stage(lambda folder: _cells(folder, workers=2), ("slides", "tiled"), (), 0.3),
    "pretrain": Stage(_pretrain, ("store",), LEARNS, 1.3),
    "pretrain, 2 processes": Stage(_pretrain_by_two, ("store",), LEARNS, 0.5),
    "study": Stage(_study, ("store",), ("dirl.study.run", *LEARNS, *AUDITS)),
    "study, 2 runs at once": Stage(lambda folder: _study(folder, 2), ("store",), ("dirl.study.run",), 0.4),
    "embed": Stage(_embed, ("store", "run"), ("dirl.features.embed",)),
    "map": Stage(_map, ("slides", "run"), ("dirl.maps.run",)),
    "audit": Stage(_audit, ("store", "run"), AUDITS, 0.8),
    "mil": Stage(_mil, ("bags",), ("dirl.evaluate.mil.run",)),
    "demo": Stage(_demo, (), ("dirl.demo", *LEARNS, *AUDITS), 0.8),
}


def outputs(folder: Path) -> dict[str, str]:
    """Digest of each file of a folder, without times, locks and TensorBoard's logs, by its place in it."""
    from dirl.core.owner import content

    found = {}
    for path in content(folder):
        place = path.relative_to(folder)
        if "tensorboard" not in place.parts:
            found[str(place)] = hashlib.sha256(_what_counts(path)).hexdigest()
    return found


def _what_counts(path: Path) -> bytes:
    if path.suffix == ".ckpt":
        import torch

        return _bytes_of(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True).encode()
    if path.name == "table.csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return repr([_timeless(row) for row in rows]).encode()
    if path.name == "table.md":
        return "\n".join(_without_seconds(path.read_text().splitlines())).encode()
    if path.suffix == ".html":
        return WHEN.sub("", path.read_text()).encode()
    return path.read_bytes()


def _without_seconds(lines: list[str]) -> Iterator[str]:
    """Leave out the column of a table in Markdown that says how long runs took."""
    column = None
    for line in lines:
        cells = line.split("|")
        if len(cells) == 1:
            column = None
        elif "seconds" in (titles := [cell.strip() for cell in cells]):
            column = titles.index("seconds")
        if column is not None:
            del cells[column]
        yield "|".join(cells)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key not in TIMES}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _bytes_of(state: Any) -> bytes:
    """The weights, the optimiser's state and the step of a checkpoint, in one order."""
    import torch

    if isinstance(state, torch.Tensor):
        return state.contiguous().numpy().tobytes()
    if isinstance(state, dict):
        return b"".join(repr(key).encode() + _bytes_of(state[key]) for key in sorted(state, key=repr))
    if isinstance(state, list | tuple):
        return b"".join(map(_bytes_of, state))
    return repr(state).encode()
