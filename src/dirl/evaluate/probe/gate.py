"""The gate with labels: features must beat the colour histogram and their own untrained encoder."""

from collections.abc import Mapping

from dirl.core.intervals import Estimate
from dirl.evaluate.common.scores import Scored
from dirl.evaluate.probe.summary import Gate, GateForm
from dirl.features.baselines import FEATURES, Baseline

JOINT = "features_and_colour_histogram"
UNJUDGED = Gate(
    passed=None,
    form=None,
    statement="The gate cannot be judged, since these features come without baselines: whether colour "
    "alone or an untrained encoder tells as much, and whether near-duplicates are in different "
    "folds, is unknown. `dirl embed` the same tiles, with baselines, to see.",
)


def labelled_gate(found: Mapping[str, Scored], k: int) -> Gate:
    """Judge whether features beat random initialisation and the colour histogram, by nearest neighbours.

    "Beats" means that the 95 % interval of the paired difference in balanced accuracy lies above 0. In the
    weaker form, features and histogram side by side beat the histogram alone. `found` holds scores of the
    vote of `k` neighbours, on the same units, by `FEATURES`, `Baseline` and `JOINT`, the two side by side.
    """
    ours, both = found[FEATURES], found[JOINT]
    untrained, histogram = found[Baseline.UNTRAINED], found[Baseline.COLOUR_HISTOGRAM]
    over_untrained, over_histogram = ours.minus(untrained), ours.minus(histogram)
    joint = both.minus(histogram)
    form: GateForm | None = None
    if _above_zero(over_untrained):
        if _above_zero(over_histogram):
            form = "full"
        elif _above_zero(joint):
            form = "weaker"
    scores = (
        f"{k}-NN balanced accuracy {ours.values[0]:.3f}, untrained {untrained.values[0]:.3f}, "
        f"colour histogram {histogram.values[0]:.3f}, features and histogram {both.values[0]:.3f}"
    )
    verdicts: dict[GateForm | None, str] = {
        "full": "The features beat both the untrained encoder and the colour histogram",
        "weaker": "Only the weaker form of the gate is passed: the features beat the untrained encoder, and "
        "add to the colour histogram, which they do not beat",
        None: "The gate with labels is not passed, so these features say nothing about a method",
    }
    return Gate(
        passed=form is not None,
        form=form,
        over_untrained=over_untrained,
        over_histogram=over_histogram,
        joint_over_histogram=joint,
        statement=f"{verdicts[form]} ({scores}).",
    )


def _above_zero(difference: Estimate) -> bool:
    return (difference.low or 0) > 0
