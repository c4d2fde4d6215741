"""Holm's correction of the p-values of several tests."""

from collections.abc import Sequence


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of a family of planned tests by Holm's step-down method.

    A test without a p-value stays without, but counts in the size of the family: it was planned.

    References
    ----------
    S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6,
    1979.
    """
    adjusted: list[float | None] = [None] * len(p)
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    so_far = 0.0
    for rank, (value, place) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(p) - rank) * value))
        adjusted[place] = so_far
    return adjusted
