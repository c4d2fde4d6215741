"""Types of the numbers that an audit finds. torch is not imported, so that reading a summary is fast."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from dirl.core.intervals import Estimate, UnitKind
from dirl.core.results import Record
from dirl.encoders.forms import Query
from dirl.evaluate.common.records import Resampling

T = TypeVar("T")

SubjectKind = Literal["encoder", "untrained", "uniform"]
Estimates = dict[str, Estimate]
Curves = dict[str, list[float | None]]

NO_ESTIMATE = Estimate(None, None, None)

PRIMARY = "entropy"
"""The measure that encoders are compared by, of the joint map: the heads' average, as a person sees it."""

TITLES = {
    "entropy": "normalised entropy",
    "entropy_tissue": "normalised entropy on tissue",
    "effective_share": "effective tokens, share",
    "effective_tokens": "effective tokens",
    "participation": "participation",
    "gini": "Gini",
    "hoyer": "Hoyer",
    "top1_mass": "top 1 % mass",
    "top5_mass": "top 5 % mass",
    "top10_mass": "top 10 % mass",
    "tokens60": "tokens for 60 % of the mass",
    "tokens90": "tokens for 90 % of the mass",
    "components50": "nuclei with ≥ ½ of uniform",
    "components25": "nuclei with ≥ ¼ of uniform",
    "components100": "nuclei with ≥ uniform",
    "head_diversity": "head diversity (nats)",
    "patch_mass": "patch mass",
    "cls_mass": "mass on [CLS]",
    "register_mass": "mass on registers",
    "outliers": "outlier tokens",
    "attention_distance": "attention distance (µm)",
    "sink_ratio": "sink ratio",
    "rollout_entropy": "normalised entropy of the rollout",
}
"""Measures by their column, with their titles in pages and tables."""


class HeadViews(Record, Generic[T]):
    """The same quantity of the joint map, and of each head by itself.

    Entropy per head is that of the joint map, minus the Jensen–Shannon divergence of the heads.

    Attributes
    ----------
    joint
        Measured of the joint map: the average of the heads' attention.
    per_head
        Measured of each head, then averaged over heads.
    """

    joint: T
    per_head: T


def head_views(make: Callable[[int], T]) -> HeadViews[T]:
    """Make the entry of each view: 0 is per head, 1 is the joint map."""
    return HeadViews[T](joint=make(1), per_head=make(0))


class SubjectFacts(Record):
    """An encoder, or a control, that an audit measures.

    Attributes
    ----------
    spec, digest, query
        None for uniform attention, which belongs to no encoder.
    run
        The run that trained it; None without one.
    control
        Name of its untrained control; None for a control.
    query
        Whose attention is measured; see `dirl.encoders.attention.AttentionRows`.
    input_px
        Side of its input; None if it takes any.
    token_um
        Side of a token in µm.
    grid
        Rows and columns of tokens.
    """

    name: str
    kind: SubjectKind
    spec: str | None
    digest: str | None
    run: str | None
    control: str | None
    query: Query | None
    patch_px: int
    input_px: int | None
    token_um: float
    grid: tuple[int, int]
    notes: tuple[str, ...]


class SlideMeans(Record):
    """The primary measure on the tiles of one slide, in the last block."""

    tiles: int
    joint: float | None
    per_head: float | None


class Audited(SubjectFacts):
    """What was measured of an encoder or control.

    Attributes
    ----------
    prior_contrast
        See `dirl.prior.coverage.prior_contrast`; of the nuclei, at this token size.
    last_block
        By measure.
    enrichment
        By region: log2 of the share of attention over the share of area, in the last block.
    entropy_training
        Normalised entropy of the joint map on the middle of each tile, which is as large as the views of the
        run's training. None for an encoder that is no run, and if the views are larger than the tiles.
    entropy_of_heads
        The normalised entropy of each head in the last block.
    entropy_by_head
        The same of every block.
    by_slide
        None if the slides are unknown.
    by_block, enrichment_by_block
        Means over tiles of every block, by measure and by region.
    """

    blocks: int
    heads: int
    prior_contrast: float | None
    last_block: HeadViews[Estimates]
    enrichment: HeadViews[Estimates]
    entropy_training: Estimate | None = None
    entropy_of_heads: list[float | None]
    entropy_by_head: list[list[float | None]]
    by_slide: dict[str, SlideMeans] | None
    by_block: HeadViews[Curves]
    enrichment_by_block: HeadViews[Curves]

    @property
    def primary(self) -> Estimate:
        """The primary measure of the joint map in the last block."""
        return self.last_block.joint[PRIMARY]


class Retrieval(Record):
    """Share of views whose nearest tile is their own; empty with too few tiles."""

    encoder: float | None = None
    untrained: float | None = None
    colour: float | None = None
    chance: float | None = None


class IntervalUnits(Record):
    """The units that were drawn for intervals, and their number."""

    over: UnitKind
    units: int


GateState = Literal["passed", "failed", "not measured"]


class LabelFreeGate(Record):
    """Whether an encoder has learned anything; see `dirl.audit.gate`.

    Attributes
    ----------
    tiles
        Number of held-out tiles.
    accuracy
        Of the encoder, its untrained control, colour statistics, and by chance.
    over_untrained, over_colour
        Difference in accuracy, with its 95 % interval, which must lie above 0. An encoder with random weights
        is its own untrained control.
    interval
        The units of these intervals; None with too few tiles.
    rank
        Effective rank of the embeddings of these tiles: the exponential of the entropy of their
        covariance's spectrum. It is at most the number of tiles. None with too few tiles.
    views
        Number of views that looked for their tile. None with too few tiles.
    loss
        Mean of the first and of the last tenth of the run's loss; None if the encoder is no run, or none was
        logged.
    reasons
        The conditions that do not hold, in words.
    """

    passed: bool
    tiles: int
    accuracy: Retrieval
    over_untrained: Estimate
    over_colour: Estimate
    interval: IntervalUnits | None = None
    rank: float | None = None
    views: int | None = None
    loss: tuple[float, float] | None
    reasons: tuple[str, ...]

    @property
    def state(self) -> GateState:
        """Whether it passed; "not measured" with too few held-out tiles."""
        return "passed" if self.passed else "not measured" if self.accuracy.encoder is None else "failed"


class Difference(Record):
    """Paired differences in the last block, `encoder` minus `reference`, by measure and by region.

    Attributes
    ----------
    temperature
        Temperature of the reference's last softmax at which its joint map has the entropy of the encoder's.
        It needs no training. None if no temperature from 0.1 to 10 does it.
    """

    reference: str
    encoder: str
    joint: Estimates
    per_head: Estimates
    enrichment: HeadViews[Estimates]
    temperature: float | None = None

    @property
    def primary(self) -> Estimate:
        """The difference in the primary measure of the joint map."""
        return self.joint[PRIMARY]


class Findings(Record):
    """All numbers of an audit, from which its verdict follows.

    Attributes
    ----------
    slides
        None if they are unknown.
    encoders
        Encoders, then controls.
    gates
        By encoder.
    differences
        Of every further encoder to the first.
    """

    store: str
    tiles: int
    slides: int | None
    tile_px: int
    mpp: float
    cells: str
    seed: int
    min_area: float
    full: bool
    primary: str
    interval: Resampling
    encoders: list[Audited]
    gates: dict[str, LabelFreeGate]
    differences: list[Difference]

    @property
    def by_name(self) -> dict[str, Audited]:
        """Encoders and controls by name."""
        return {one.name: one for one in self.encoders}

    @property
    def failed(self) -> dict[str, LabelFreeGate]:
        """Gates that encoders failed."""
        return {name: gate for name, gate in self.gates.items() if not gate.passed}
