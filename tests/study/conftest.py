"""Rows of finished runs, made up."""

from typing import Any

import pytest

from dirl.study.matrix import StudyConfig
from dirl.study.summary import RunRow

KINDS = {"vanilla": "vanilla", "pool": "dirl"}


@pytest.fixture
def config() -> StudyConfig:
    return StudyConfig(
        recipe="demo",
        objectives={"simclr": {}, "byol": {}},
        arms={"vanilla": {"dense.weight": 0}, "pool": {}, "grid": {"dense.control": "grid"}},
        seeds=(0, 1, 2),
        contrasts=(("pool", "vanilla"), ("pool", "grid")),
    )


@pytest.fixture
def row():
    def made(objective: str, arm: str, seed: int, entropy: float, **more: Any) -> RunRow:
        values = {
            "run": f"{objective}/{arm}/seed-{seed}",
            "objective": objective,
            "arm": arm,
            "seed": seed,
            "kind": KINDS.get(arm, "control"),
            "failed": None,
            "gate": {"passed": True, "label_free": True, "with_labels": None, "reasons": []},
            "measures": {"entropy_joint": entropy, "gini": 1 - entropy, "entropy_untrained": 0.99},
            "notes": [],
        }
        return RunRow.model_validate(values | more)

    return made
