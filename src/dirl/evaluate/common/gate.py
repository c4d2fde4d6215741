"""The gate with labels: an encoder that colour or its own untrained twin equals has shown nothing."""

from collections.abc import Mapping
from typing import Any

from dirl.evaluate.common.scores import Scored


def judge(found: Mapping[str, Scored], k: int) -> dict[str, Any]:
    """Say whether features beat random initialisation and the colour histogram, by nearest neighbours.

    "Beats" means that the 95 % interval of the paired difference in balanced accuracy lies above 0. In the
    weaker form, features and histogram side by side beat the histogram alone.

    Parameters
    ----------
    found
        kNN scores of ``features``, ``untrained``, ``colour_histogram`` and
        ``features_and_colour_histogram``, on the same units.
    k
        Neighbours that were asked.

    Returns
    -------
    dict
        ``form`` is ``full``, ``weaker`` or None; ``passed``, the three differences and a ``statement``.
    """
    ours, untrained, histogram = (found[n] for n in ("features", "untrained", "colour_histogram"))
    over_untrained, over_histogram = ours.minus(untrained), ours.minus(histogram)
    both = found["features_and_colour_histogram"]
    joint = both.minus(histogram)
    form = None
    if (over_untrained["low"] or 0) > 0:
        if (over_histogram["low"] or 0) > 0:
            form = "full"
        elif (joint["low"] or 0) > 0:
            form = "weaker"
    scores = (
        f"{k}-NN balanced accuracy {ours.values[0]:.3f}, untrained {untrained.values[0]:.3f}, "
        f"colour histogram {histogram.values[0]:.3f}, features and histogram {both.values[0]:.3f}"
    )
    verdict = {
        "full": "The features beat both the untrained encoder and the colour histogram",
        "weaker": "Only the weaker form of the gate is passed: the features beat the untrained encoder, and "
        "add to the colour histogram, which they do not beat",
        None: "The gate with labels is not passed, so these features say nothing about a method",
    }[form]
    return {
        "passed": form is not None,
        "form": form,
        "over_untrained": over_untrained,
        "over_histogram": over_histogram,
        "joint_over_histogram": joint,
        "statement": f"{verdict} ({scores}).",
    }
