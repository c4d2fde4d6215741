"""What stands against a split, in words: colour that tells all, stain for want of slides, few units."""

from typing import Any

from dirl.evaluate.common.task import Task

LEAK = 0.8


def leakage(histogram: float) -> dict[str, Any]:
    """Flag a split in which the neighbours by colour histogram alone score above `LEAK`."""
    return {"histogram_knn": histogram, "threshold": LEAK, "flagged": histogram > LEAK}


def caveats(task: Task, unknown: int, leak: dict[str, Any] | None = None) -> list[str]:
    """Say what must be known to read scores.

    Parameters
    ----------
    task
        What was scored.
    unknown
        How many rows of the labels name a tile or slide that there is not.
    leak
        From `leakage`; None where it is not known whether colour alone tells the classes.
    """
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
    if unknown:
        notes.append(f"Rows of the labels that name tiles or slides which are not there: {unknown}.")
    return notes
