"""Features made by hand, as `dirl embed` would have written them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.features.feature_files import write_rows

Maker = Callable[..., Path]


@pytest.fixture
def make_features(tmp_path: Path) -> Maker:
    """Return ``make(values, histogram, labels, ...)``, which writes a directory of features."""

    def make(
        values: NDArray[Any],
        histogram: NDArray[Any],
        labels: NDArray[np.str_],
        *,
        slides: NDArray[np.str_] | None = None,
        patients: NDArray[np.str_] | None = None,
        ready_made: bool = True,
        tile_ids: NDArray[np.str_] | None = None,
        name: str = "features",
    ) -> Path:
        count, out = len(values), tmp_path / name
        nothing = np.full(count, "", dtype=np.str_)
        noise = np.random.default_rng(99).normal(size=(count, 4)).astype(np.float32)
        rows: dict[str, NDArray[Any]] = {
            "features": values.astype(np.float32),
            "coords": np.zeros((count, 2), np.int64),
            "index": np.arange(count),
            "ready_made": np.full(count, ready_made),
            "tile_id": np.array([f"t{i}" for i in range(count)]) if tile_ids is None else tile_ids,
            "slide_id": np.full(count, "folder") if slides is None else slides,
            "patient_id": nothing if patients is None else patients,
            "label": labels,
            "hash": np.random.default_rng(5).integers(0, 2**63, count).astype(np.uint64),
        }
        baselines = {"untrained": noise, "colour_statistics": noise, "colour_histogram": histogram}
        card = claim(out, new_card("embed", {"encoder": "mine"}, {"store": "s", "encoder": name}))
        write_rows(out / "baselines" / "all.h5", {k: v.astype(np.float32) for k, v in baselines.items()})
        write_rows(out / "h5_files" / "all.h5", rows)
        finish(out, card, {"tiles": count, "slides": 1})
        return out

    return make
