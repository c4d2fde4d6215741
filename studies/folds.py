"""Part labelled tiles of unknown slides for the evidence: a fold of stain clusters to tune on, and the rest.

``python studies/folds.py FEATURES TILES OUT``: FEATURES are those of `dirl embed` of a store of TILES, a
folder of ready-made tiles by class; only their colours are used. Copies the tiles to OUT/tuning and OUT/rest,
to be made stores of by `dirl tile`. The folds are those of `dirl probe` by default: clusters of colour within
each class, five folds, seed 0; the first is for tuning.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from dirl import api
from dirl.evaluate.splits import make_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("features", type=Path)
parser.add_argument("tiles", type=Path)
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
files = {
    file.relative_to(given.tiles).with_suffix("").as_posix(): file
    for file in given.tiles.rglob("*")
    if file.is_file()
}
for tile_id, label, fold in zip(
    features.tile_ids.tolist(), features.labels.tolist(), split.folds, strict=True
):
    file = files[tile_id]
    to = given.out / ("rest" if fold else "tuning") / label / file.name
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
print(f"{(split.folds == 0).sum()} tiles to tune on, {(split.folds > 0).sum()} others; split {split.digest}")
