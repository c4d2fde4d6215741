"""Bags made by hand, as CLAM's and TRIDENT's readers take them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dirl.config import MilConfig

# Small enough for a test, and enough to tell planted tiles.
QUICK = MilConfig(
    folds=3, inner_folds=2, models=("mean", "abmil"), width=8, epochs=5, learning_rates=(0.02,), bootstrap=50
)


@pytest.fixture
def quick() -> MilConfig:
    return QUICK


@pytest.fixture
def write_bag(tmp_path: Path) -> Callable[..., Path]:
    """Return ``write(slide, values, folder="bags", **datasets)``, which writes one slide's file."""

    def write(slide: str, values: Any, folder: str = "bags", **datasets: Any) -> Path:
        path = tmp_path / folder / f"{slide}.h5"
        path.parent.mkdir(exist_ok=True, parents=True)
        with h5py.File(path, "w") as handle:
            handle["features"] = np.asarray(values, np.float32)
            for name, rows in datasets.items():
                handle[name] = rows
        return path.parent

    return write


@pytest.fixture
def cohort(tmp_path: Path, write_bag: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Return ``make(extra={})``: 24 slides of 12 patients, half of them with some tiles of another kind.

    `extra` are columns of the labels by their names, a value for each slide.
    """

    def make(extra: Mapping[str, list[Any]] | None = None) -> tuple[Path, Path]:
        generator = np.random.default_rng(0)
        columns: dict[str, list[Any]] = {
            "slide_id": [f"s{i:02d}" for i in range(24)],
            "label": ["benign", "tumour"] * 12,
            "patient_id": [f"p{(i % 2) * 6 + i // 2 % 6}" for i in range(24)],
        }
        columns |= extra or {}
        for i in range(24):
            count = int(generator.integers(6, 14))
            values = generator.normal(size=(count, 5))
            values[: 3 if i % 2 else 0, 0] += 6
            corners = np.stack([224 * np.arange(count), np.full(count, 448)], axis=1)
            write_bag(f"s{i:02d}", values, coords=corners)
        rows = zip(*(map(str, column) for column in columns.values()), strict=True)
        lines = [",".join(columns), *(",".join(row) for row in rows)]
        (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "bags", tmp_path / "slides.csv"

    return make
