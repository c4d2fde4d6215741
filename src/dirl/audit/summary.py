"""What `dirl audit` reports: the type of its ``summary.json``. Without torch, as `dirl.audit.findings`."""

from typing import Literal

from dirl.audit.findings import NO_ESTIMATE, Findings, GateState, IntervalUnits
from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary

Standing = Literal[
    "control",
    "gate failed",
    "gate not measured",
    "reference",
    "other query",
    "reference failed",
    "no difference seen",
    "more even",
    "less even",
]
"""What can be said of an encoder compared with the first one."""


class LeaderboardLine(Record):
    """A line of the leaderboard; `rank` is None for encoders that are not ranked, `gate` for controls."""

    rank: int | None
    encoder: str
    gate: GateState | None
    verdict: Standing


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
    """Attention on a planted mark; see `dirl.audit.confounder.confounder`."""

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
    joint: MarkAttention
    auroc_of_heads: list[float]
    pointing_by_chance: float


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
    interval: IntervalUnits
    encoders: list[MarkTest]
    statements: list[str]


class MapTrust(Record):
    """Whether an encoder's joint map can be trusted; see `dirl.audit.trust`.

    Attributes
    ----------
    tiles
        Number of tiles of the stability.
    stability
        By change: mean correlation of a tile's map with its map after the change.
    to_first
        Mean correlation with the map of the first encoder; None for the first.
    auroc
        For nuclei, and for each of their classes: how attention ranks their pixels above the other tissue.
    auroc_untrained
        The same of the untrained control.
    """

    name: str
    tiles: int
    stability: dict[str, Estimate]
    to_first: Estimate | None
    auroc: dict[str, Estimate]
    auroc_untrained: dict[str, Estimate]


FACTS = ("query", "blocks", "heads", "token_um", "prior_contrast", "spec", "digest")


class AuditSummary(Findings, Summary):
    """What `dirl audit` writes to ``summary.json``.

    Attributes
    ----------
    examples_rule, examples
        By which rule tiles are shown, and which.
    strip
        Number of the example whose heads are shown.
    trust
        Stability of the maps, and how they rank nuclei; one for each encoder.
    confounder
        The test with planted marks, if it was asked for.
    """

    leaderboard: list[LeaderboardLine]
    verdict: Verdict
    examples_rule: str
    examples: list[ShownTile]
    strip: int
    trust: tuple[MapTrust, ...] = ()
    confounder: MarkSummary | None = None

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and encoders."""
        return {"tiles": self.tiles, "encoders": len(self.gates)}

    def rows(self) -> list[dict[str, object]]:
        """The leaderboard: every measure of the joint map in the last block, with its interval.

        ``entropy_per_head`` is the mean of the heads' entropies.

        ``difference`` is that of the primary measure to the first encoder, ``log2_nuclei`` and the like are
        enrichments.
        """
        return [self._row(line) for line in self.leaderboard]

    def _row(self, line: LeaderboardLine) -> dict[str, object]:
        one, gate = self.by_name[line.encoder], self.gates.get(line.encoder)
        changes = {pair.encoder: pair.primary for pair in self.differences}
        estimates = one.last_block.joint | {
            "entropy_per_head": one.last_block.per_head["entropy"],
            "entropy_training": one.entropy_training or NO_ESTIMATE,
            **{f"log2_{region}": value for region, value in one.enrichment.joint.items()},
            "difference": changes.get(line.encoder, NO_ESTIMATE),
            "retrieval_over_untrained": gate.over_untrained if gate else NO_ESTIMATE,
            "retrieval_over_colour": gate.over_colour if gate else NO_ESTIMATE,
        }
        row: dict[str, object] = line.to_json()
        row |= {"kind": one.kind, "retrieval": gate.accuracy.encoder if gate else None}
        row |= {"embedding_rank": gate.rank if gate else None}
        for name, value in estimates.items():
            row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        return row | {name: getattr(one, name) for name in FACTS}
