"""What an audit found: the type of its ``summary.json``. Without torch, so that readers start at once."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from dirl.audit.titles import PRIMARY
from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary
from dirl.evaluate.common.records import Resampling

T = TypeVar("T")

Kind = Literal["encoder", "untrained", "uniform"]
Estimates = dict[str, Estimate]
Curves = dict[str, list[float | None]]

NONE = Estimate(None, None, None)


class Views(Record, Generic[T]):
    """The same quantity of each head by itself, and of the heads' average.

    Attributes
    ----------
    per_head
        Measured of each head, then averaged over heads.
    heads_averaged
        Measured of the average of the heads' attention.
    """

    per_head: T
    heads_averaged: T


def of_views(make: Callable[[int], T]) -> Views[T]:
    """Make the entry of each view: 0 is per head, 1 is heads averaged."""
    return Views[T](per_head=make(0), heads_averaged=make(1))


class Facts(Record):
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
    kind: Kind
    spec: str | None
    digest: str | None
    run: str | None
    control: str | None
    query: str | None
    patch_px: int
    input_px: int | None
    token_um: float
    grid: tuple[int, int]
    notes: tuple[str, ...]


class SlideMeans(Record):
    """The primary measure on the tiles of one slide, in the last block."""

    tiles: int
    per_head: float | None
    heads_averaged: float | None


class Audited(Facts):
    """What was measured of an encoder or control.

    Attributes
    ----------
    prior_contrast
        See `dirl.prior.coverage.prior_contrast`; of the nuclei, at this token size.
    last_block
        By measure.
    enrichment
        By region: log2 of the share of attention over the share of area, in the last block.
    entropy_of_heads
        The primary measure of each head in the last block.
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
    last_block: Views[Estimates]
    enrichment: Views[Estimates]
    entropy_of_heads: list[float | None]
    entropy_by_head: list[list[float | None]]
    by_slide: dict[str, SlideMeans] | None
    by_block: Views[Curves]
    enrichment_by_block: Views[Curves]

    @property
    def primary(self) -> Estimate:
        """The primary measure in the last block, per head."""
        return self.last_block.per_head[PRIMARY]


class Retrieval(Record):
    """Share of views whose nearest other view is of the same tile; empty with too few tiles."""

    encoder: float | None = None
    untrained: float | None = None
    colour: float | None = None
    chance: float | None = None


class LabelFreeGate(Record):
    """Whether an encoder has learned anything; see `dirl.audit.gate`.

    Attributes
    ----------
    passed
        Whether every condition holds.
    tiles
        Number of held-out tiles.
    accuracy
        Of the encoder, its untrained control, colour statistics, and by chance.
    over_untrained, over_colour
        Difference in accuracy, with its 95 % interval over tiles. The interval must lie above 0. An encoder
        with random weights is its own untrained control.
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
    loss: tuple[float, float] | None
    reasons: tuple[str, ...]


class Difference(Record):
    """Paired differences in the last block, `encoder` minus `reference`, by measure and by region."""

    reference: str
    encoder: str
    per_head: Estimates
    heads_averaged: Estimates
    enrichment: Views[Estimates]

    @property
    def primary(self) -> Estimate:
        """The difference in the primary measure, per head."""
        return self.per_head[PRIMARY]


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


class Line(Record):
    """A line of the leaderboard.

    Attributes
    ----------
    rank
        None without one.
    gate
        ``passed`` or ``failed``; None for a control.
    """

    rank: int | None
    encoder: str
    gate: str | None
    verdict: str


class Verdict(Record):
    """A sentence and what qualifies it.

    Attributes
    ----------
    evidence
        Whether encoders that pass the gate differ. With one encoder: whether it passes.
    headline
        One or two sentences.
    notes
        What a reader must know beside it, the most serious first.
    """

    evidence: bool
    headline: str
    notes: tuple[str, ...]


class ShownTile(Record):
    """A tile in the figures, and why it is shown."""

    title: str
    tile_id: str


class MarkAttention(Record):
    """Attention on a planted mark; see `dirl.audit.confounder.test_marks`."""

    auroc: Estimate
    pointing: Estimate
    enrichment: Estimate
    before: Estimate
    change: Estimate


class MarkTest(Record):
    """What the test with a planted mark found of one encoder.

    Attributes
    ----------
    probe
        Balanced accuracy of the linear probe for the mark.
    auroc_of_heads
        Mean over tiles, of each head.
    pointing_by_chance
        Share of tokens that touch the mark.
    """

    name: str
    probe: Estimate
    per_head: MarkAttention
    heads_averaged: MarkAttention
    auroc_of_heads: list[float]
    pointing_by_chance: float


class MarkUnits(Record):
    """The units that were drawn for intervals, and their number."""

    over: str
    units: int


class MarkSummary(Record):
    """The test with planted marks.

    Attributes
    ----------
    ink
        Red, green and blue that the mark lets through, of 255.
    area
        Mean share of a tile that the mark covers.
    statements
        A sentence for each encoder.
    """

    tiles: int
    marked: int
    ink: tuple[int, int, int]
    diameter_um: float
    area: float
    interval: MarkUnits
    encoders: list[MarkTest]
    statements: list[str]


FACTS = ("query", "blocks", "heads", "token_um", "prior_contrast", "spec", "digest")


class AuditSummary(Findings, Summary):
    """What `dirl audit` writes to ``summary.json``.

    Attributes
    ----------
    examples_rule, examples
        By which rule tiles are shown, and which.
    strip
        Number of the example whose heads are shown.
    confounder
        The test with planted marks, if it was asked for.
    """

    leaderboard: list[Line]
    verdict: Verdict
    examples_rule: str
    examples: list[ShownTile]
    strip: int
    confounder: MarkSummary | None = None

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and encoders."""
        return {"tiles": self.tiles, "encoders": len(self.gates)}

    def rows(self) -> list[dict[str, object]]:
        """The leaderboard: every measure of the last block, per head, with its interval.

        ``difference`` is that of the primary measure to the first encoder, ``log2_nuclei`` and the like are
        enrichments.
        """
        return [self._row(line) for line in self.leaderboard]

    def _row(self, line: Line) -> dict[str, object]:
        one, gate = self.by_name[line.encoder], self.gates.get(line.encoder)
        change = next((pair.primary for pair in self.differences if pair.encoder == line.encoder), NONE)
        estimates = one.last_block.per_head | {
            **{f"log2_{region}": value for region, value in one.enrichment.per_head.items()},
            "difference": change,
            "retrieval_over_untrained": gate.over_untrained if gate else NONE,
            "retrieval_over_colour": gate.over_colour if gate else NONE,
        }
        row: dict[str, object] = line.to_json()
        row |= {"kind": one.kind, "retrieval": gate.accuracy.encoder if gate else None}
        for name, value in estimates.items():
            row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        return row | {name: getattr(one, name) for name in FACTS}
