"""Summaries of audits, made up."""

from typing import Any

from dirl.audit.findings import Findings
from dirl.audit.summary import AuditSummary, Verdict
from dirl.audit.table import MEASURES

REGIONS = ("nuclei", "rest", "glass")


def of(value: float | None, half: float = 0.01) -> dict[str, float | None]:
    """An estimate with an interval of this half width."""
    return {
        "value": value,
        "low": None if value is None else value - half,
        "high": None if value is None else value + half,
    }


def both(value: Any) -> dict[str, Any]:
    return {"per_head": value, "joint": value}


def encoder(name: str, entropy: float | None, **changes: Any) -> dict[str, Any]:
    """An encoder whose measures are 0.8, but for its entropy and for `changes`."""
    measures = {measure: of(0.8) for measure in MEASURES} | {"entropy": of(entropy)} | changes
    return {
        "name": name,
        "kind": "encoder",
        "spec": name,
        "digest": "0",
        "run": None,
        "control": "untrained",
        "query": "cls",
        "patch_px": 8,
        "input_px": None,
        "token_um": 4.0,
        "grid": (8, 8),
        "notes": (),
        "blocks": 2,
        "heads": 2,
        "prior_contrast": 0.5,
        "last_block": both(measures),
        "enrichment": both(dict.fromkeys(REGIONS, of(0.5))),
        "entropy_of_heads": [entropy, entropy],
        "entropy_by_head": [[entropy, entropy], [entropy, entropy]],
        "by_slide": None,
        "by_block": both({key: [0.8, 0.8] for key in MEASURES}),
        "enrichment_by_block": both({key: [0.5, 0.5] for key in REGIONS}),
    }


def gate(passed: bool = True, *reasons: str) -> dict[str, Any]:
    return {
        "passed": passed,
        "tiles": 24,
        "accuracy": {"encoder": 0.1},
        "over_untrained": of(0.05),
        "over_colour": of(0.05),
        "loss": None,
        "reasons": reasons,
    }


def findings(
    *encoders: dict[str, Any],
    change: float = 0.1,
    per_head: float = 0.1,
    nuclei: float = 0.0,
    over: str = "slides",
) -> dict[str, Any]:
    """Encoders that all pass the gate, an untrained control, and the last one's difference to the first."""
    pair = {
        "reference": encoders[0]["name"],
        "encoder": encoders[-1]["name"],
        "joint": {"entropy": of(change), "head_diversity": of(-0.1)},
        "per_head": {"entropy": of(per_head)},
        "enrichment": both({"nuclei": of(nuclei), "glass": of(0)}),
    }
    return {
        "store": "store",
        "tiles": 256,
        "slides": 7,
        "tile_px": 64,
        "mpp": 0.5,
        "cells": "truth",
        "seed": 0,
        "min_area": 0.01,
        "full": False,
        "primary": "entropy",
        "interval": {"level": 0.95, "resamples": 100, "over": over, "units": 7},
        "encoders": [*encoders, encoder("untrained", 0.99) | {"kind": "untrained", "control": None}],
        "gates": {one["name"]: gate() for one in encoders},
        "differences": [pair] if len(encoders) > 1 else [],
    }


def summary(found: dict[str, Any], headline: str = "No evidence.") -> AuditSummary:
    """The whole summary, with an empty leaderboard."""
    Findings.model_validate(found)
    return AuditSummary.model_validate(
        found
        | {
            "leaderboard": [],
            "verdict": Verdict(evidence=False, headline=headline, notes=()),
            "examples_rule": "",
            "examples": [],
            "strip": 0,
        }
    )
