"""What stands against a split, in words: colour that tells all, stain for want of slides, few units."""

from typing import Any

from dirl.evaluate.task import Task

LEAK = 0.8


def leakage(histogram: float) -> dict[str, Any]:
    """Flag a split in which the neighbours by colour histogram alone score above `LEAK`."""
    return {"histogram_knn": histogram, "threshold": LEAK, "flagged": histogram > LEAK}


def caveats(task: Task, leak: dict[str, Any] | None) -> list[str]:
    """Say what must be known of a split to read its scores; `leak` is None where colours are unknown."""
    notes = []
    if task.split.scheme == "stain":
        notes.append(
            "Folds are clusters of stain within each class: tiles of one slide may still stand on both "
            "sides, so scores compare encoders and say little of new slides."
        )
    if leak and leak["flagged"]:
        notes.append(
            f"This split leaks: colour alone scores {leak['histogram_knn']:.2f}, above {LEAK}. Its scores "
            "prove nothing; name patients, slides or groups."
        )
    if task.units.kind == "tiles":
        why = "are unknown" if task.sources is None else "are too few to resample"
        notes.append(f"Patients and slides {why}: intervals are over tiles, and so too narrow.")
    return notes
