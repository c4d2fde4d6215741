"""The predictions of models that were trained for each fold: ``predictions.csv``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from dirl.core.files import replacing

Columns = Mapping[str, Sequence[str] | NDArray[np.generic]]


def write_predictions(out: Path, items: Columns, models: Mapping[str, Columns]) -> None:
    """Write one row for each model and held-out item: what is known of the item, and the model's answer."""
    count = len(next(iter(items.values())))
    tables = [pa.table({"model": [model] * count, **items, **own}) for model, own in models.items()]
    with replacing(out / "predictions.csv") as temporary:
        pyarrow.csv.write_csv(pa.concat_tables(tables), temporary)


def class_columns(names: Sequence[str], scores: NDArray[np.float64]) -> Columns:
    """Return the predicted class and the probability of each class, from scores (n, classes)."""
    predicted = np.array(names)[scores.argmax(axis=1)].tolist()
    return {"predicted": predicted} | {f"p_{name}": scores[:, c] for c, name in enumerate(names)}
