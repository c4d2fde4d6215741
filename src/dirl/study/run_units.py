"""What the measures of a run are made of, by unit: read from the files of its audit and of its probe."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.audit.table import AVERAGED
from dirl.core.checked import checked, read_summary, repair_advice
from dirl.store.index import read_parquet
from dirl.study.measures import PRIMARY
from dirl.study.summary import UnitSums


def attention_units(audit: Path) -> dict[str, UnitSums]:
    """Sum the joint entropy of the last block over the units of the audit: slides or tiles."""
    table = read_parquet(checked(audit, "measures.parquet"), repair_advice("audit"))
    columns = {
        name: table[name].to_numpy(zero_copy_only=False)
        for name in ("encoder", "tile_id", "slide_id", "block", "head", "entropy")
    }
    summary = read_summary(audit)
    subject = summary["encoders"][0]["name"]
    kept = (columns["encoder"] == subject) & (columns["head"] == AVERAGED)
    kept &= columns["block"] == columns["block"][kept].max()
    unit = "slide_id" if summary["interval"]["over"] == "slides" else "tile_id"
    names = columns[unit][kept].astype(str)
    entropy = columns["entropy"][kept].astype(np.float64)
    known = np.isfinite(entropy)
    return {PRIMARY: _sums(names[known], entropy[known][:, None], np.ones((int(known.sum()), 1)))}


def probe_units(probe: Path) -> dict[str, UnitSums]:
    """Count right predictions and tiles of each class by the units of the probe, for balanced accuracy."""
    table = read_parquet(checked(probe, "predictions.parquet"), repair_advice("probe"))
    labels = table["label"].to_numpy(zero_copy_only=False).astype(str)
    units = table["unit"].to_numpy().astype(str)
    nearest = next(name for name in table.column_names if name.startswith("knn"))
    of_class = (labels[:, None] == np.unique(labels)).astype(np.float64)
    found = {}
    for name, column in (("knn", nearest), ("linear", "linear")):
        right = table[column].to_numpy(zero_copy_only=False).astype(str) == labels
        found[name] = _sums(units, of_class * right[:, None], of_class)
    return found


def _sums(names: NDArray[np.str_], above: NDArray[np.float64], below: NDArray[np.float64]) -> UnitSums:
    """Sum numerators and denominators (t, c) over the tiles of each unit."""
    return {
        name: [above[names == name].sum(axis=0).tolist(), below[names == name].sum(axis=0).tolist()]
        for name in np.unique(names).tolist()
    }
