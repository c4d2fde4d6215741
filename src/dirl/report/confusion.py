"""A confusion matrix of held-out predictions, and what it says of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassRow:
    """One class of a confusion matrix.

    Attributes
    ----------
    name
        Of the class.
    items, predicted
        How many belong to it, and how many are predicted as it.
    counts
        Of its items, by predicted class.
    shares
        `counts` over `items`; 0 without items.
    recall, precision, f1
        None where the denominator is 0.
    """

    name: str
    items: int
    predicted: int
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    recall: float | None
    precision: float | None
    f1: float | None


def confusion_rows(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str]
) -> tuple[ClassRow, ...]:
    """Count predictions by true class; `truth` and `predicted` are ``(n,)``, classes from 0 as in `names`."""
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    items, guesses = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    rows = []
    for number, name in enumerate(names):
        hits, own, guessed = int(counts[number, number]), items[number], guesses[number]
        rows.append(
            ClassRow(
                name=name,
                items=own,
                predicted=guessed,
                counts=tuple(counts[number].tolist()),
                shares=tuple((counts[number] / max(own, 1)).tolist()),
                recall=hits / own if own else None,
                precision=hits / guessed if guessed else None,
                f1=2 * hits / (own + guessed) if own + guessed else None,
            )
        )
    return tuple(rows)
