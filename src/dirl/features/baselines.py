"""Baselines: features that need no training, with which features are compared."""

from enum import StrEnum

FEATURES = "features"


class Baseline(StrEnum):
    """A baseline by its name in files, in the order of tables and figures."""

    UNTRAINED = "untrained"
    COLOUR_STATISTICS = "colour_statistics"
    COLOUR_HISTOGRAM = "colour_histogram"


TITLES = {
    FEATURES: "features",
    Baseline.UNTRAINED: "untrained encoder",
    Baseline.COLOUR_STATISTICS: "colour mean, sd",
    Baseline.COLOUR_HISTOGRAM: "colour histogram",
}
"""What the features and their baselines are called on screen and in figures."""
