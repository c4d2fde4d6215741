"""Write the labels of a store of ready-made tiles, with the official split as folds, for `dirl probe`.

Usage: python split_csv.py STORE TRAIN CSV, where TRAIN is how the names of the training classes begin.
"""

import csv
import sys
from pathlib import Path

import dirl


def main(store: Path, train: str, out: Path) -> None:
    """Name `train` what is trained on, and everything else `test`."""
    rows = dirl.TileStore.open(store).index.select(["tile_id", "slide_id", "label"]).to_pylist()
    with out.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["tile_id", "label", "fold"])
        for row in rows:
            fold = "train" if row["slide_id"].startswith(train) else "test"
            table.writerow([row["tile_id"], row["label"], fold])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
