"""Labels for the evidence: a fold of stain clusters to tune on, and the others to confirm on.

``python studies/folds.py TILES FEATURES OUT``: TILES is the folder that the tiles came from, FEATURES those
of `dirl embed` of them all, of which only the colours are used. OUT/tune.csv holds the first fold out and
trains on all others. OUT/confirm.csv holds the others out one by one, without the first. The folds are those
of `dirl probe` by default: clusters of colour within each class, five folds, seed 0. OUT/tune holds links to
the tiles that the screen scores: all of the first fold and equally many of the others, equally of each class.
OUT/confirm holds links to those of the confirmation, from the other four folds.
"""

import argparse
from pathlib import Path

import numpy as np

import dirl
from dirl.evaluate.common.splits import make_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("tiles", type=Path)
parser.add_argument("features", type=Path)
parser.add_argument("out", type=Path)
given = parser.parse_args()
features = dirl.read_features(given.features)
names, classes = np.unique(features.labels, return_inverse=True)
split = make_split(
    features.tile_ids,
    classes,
    tuple(names.tolist()),
    dirl.ProbeConfig(),
    sources=None,
    given=None,
    colours=features.baselines["colour_histogram"],
)
given.out.mkdir(parents=True, exist_ok=True)
columns = {"tune.csv": np.where(split.folds == 0, "tune", "train"), "confirm.csv": split.folds.astype(str)}
for name, folds in columns.items():
    kept = np.full(len(split.folds), True) if name == "tune.csv" else split.folds > 0
    rows = zip(features.tile_ids[kept], features.labels[kept], folds[kept], split.groups[kept], strict=True)
    lines = [f"{tile},{label},{fold},{group}" for tile, label, fold, group in rows]
    (given.out / name).write_text("\n".join(["tile_id,label,fold,group", *lines, ""]))

# Which tiles of each class stand in a fold, in an order drawn once.
order = np.random.default_rng(0).permutation(len(features))
drawn = {(fold, c): order[(split.folds[order] == fold) & (classes[order] == c)]
         for fold in range(5) for c in range(len(names))}  # fmt: skip
whole = np.flatnonzero(split.folds == 0)
others = range(1, 5)
scored = {
    "tune": np.concatenate([whole, *(drawn[f, c][:50] for f in others for c in range(len(names)))]),
    "confirm": np.concatenate([drawn[f, c][:120] for f in others for c in range(len(names))]),
}
files = {f"{path.parent.name}/{path.stem}": path.resolve() for path in given.tiles.rglob("*.*")}
for name, chosen in scored.items():
    for tile in features.tile_ids[np.sort(chosen)]:
        link = given.out / name / tile.split("/")[0] / files[tile].name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files[tile])
    print(f"{len(chosen)} tiles in {given.out / name}")
print(f"{(split.folds == 0).sum()} tiles to tune on, {(split.folds > 0).sum()} others; split {split.digest}")
