"""Labels for the evidence: a fold of stain clusters to tune on, and the others to confirm on.

``python studies/folds.py FEATURES OUT``: FEATURES are those of `dirl embed` of all labelled tiles; only their
colours are used. Writes OUT/tune.csv, in which the first fold is held out and all others are trained on, and
OUT/confirm.csv, in which the others are held out one by one and the first takes no part. The folds are those
of `dirl probe` by default: clusters of colour within each class, five folds, seed 0.
"""

import argparse
from pathlib import Path

import numpy as np

from dirl import api
from dirl.evaluate.splits import make_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("features", type=Path)
parser.add_argument("out", type=Path)
given = parser.parse_args()
features = api.read_features(given.features)
names, classes = np.unique(features.labels, return_inverse=True)
split = make_split(
    features.tile_ids,
    classes,
    tuple(names.tolist()),
    api.ProbeConfig(),
    sources=None,
    given=None,
    colours=features.floors["colour_histogram"],
)
given.out.mkdir(parents=True, exist_ok=True)
columns = {"tune.csv": np.where(split.folds == 0, "tune", "train"), "confirm.csv": split.folds.astype(str)}
for name, folds in columns.items():
    kept = np.full(len(split.folds), True) if name == "tune.csv" else split.folds > 0
    rows = zip(features.tile_ids[kept], features.labels[kept], folds[kept], split.groups[kept], strict=True)
    lines = [f"{tile},{label},{fold},{group}" for tile, label, fold, group in rows]
    (given.out / name).write_text("\n".join(["tile_id,label,fold,group", *lines, ""]))
print(f"{(split.folds == 0).sum()} tiles to tune on, {(split.folds > 0).sum()} others; split {split.digest}")
