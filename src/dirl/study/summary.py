"""What a study found: the types of its rows and of its ``summary.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary
from dirl.evaluate.probe.summary import GateForm
from dirl.study.matrix import ArmKind
from dirl.study.measures import PRIMARY

Measures = dict[str, float | None]
UnitSums = dict[str, list[list[float]]]
"""By unit (slide, patient, group or tile): sums of its numerators, and of its denominators, by class."""
Standing = Literal["exploratory", "descriptive", "claim"]


class RowGate(Record):
    """Whether a run learned anything.

    Attributes
    ----------
    passed
        Whether it passes the label-free gate and, if there are labels, that with labels.
    with_labels
        The form of the features that passes, or ``failed``; None without labels.
    """

    passed: bool
    label_free: bool
    with_labels: GateForm | Literal["failed"] | None
    reasons: list[str]


class RunRow(Record):
    """One run of a study.

    Attributes
    ----------
    run
        Its name, ``OBJECTIVE/ARM/seed-N``.
    failed
        Why it failed; None if it did not.
    gate
        None if it failed.
    measures
        By name, see `dirl.study.measures.TITLES`.
    notes
        Notes of the probe.
    units
        What `measures` are made of, by unit, for the hierarchical bootstrap: of the joint entropy, kNN and
        the linear probe. Empty in ``summary.json``; ``results/`` has it.
    traceback
        Where an unexpected error came from.
    """

    run: str
    objective: str
    arm: str
    seed: int
    kind: ArmKind
    failed: str | None
    gate: RowGate | None
    measures: Measures
    notes: list[str]
    units: Mapping[str, UnitSums] = {}
    traceback: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether it is finished, and passes the gate."""
        return self.gate is not None and self.gate.passed


class MeanSd(Record):
    """Mean, standard deviation and number of seeds; None with too few of them."""

    mean: float | None
    sd: float | None
    n: int


class Arm(Record):
    """The runs of one objective and arm over all seeds.

    Attributes
    ----------
    kind
        None before the first run.
    runs, failed
        Finished and failed ones.
    gate_passed, label_free_gate_passed
        How many passed the gate, and its label-free part.
    """

    objective: str
    arm: str
    kind: ArmKind | None
    runs: int
    failed: int
    gate_passed: int
    label_free_gate_passed: int
    measures: dict[str, MeanSd]


@dataclass(frozen=True)
class Paired:
    """A difference between two arms over the seeds that both have; the training seed is the replicate.

    Attributes
    ----------
    seeds
        Number of seeds.
    difference, sd
        Mean and standard deviation of the paired differences. The mean is None with no seed, the standard
        deviation with fewer than two.
    low, high, p
        95 % interval and two-sided p of the paired t-test. None with fewer than three seeds, or if all
        differences are the same.
    p_holm
        Corrected over all planned contrasts and primary measures of the study; None if not planned.
    """

    seeds: int
    difference: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None

    @property
    def turned(self) -> "Paired":
        """The difference with the arms exchanged."""
        difference, low, high = (
            None if end is None else -end for end in (self.difference, self.high, self.low)
        )
        return replace(self, difference=difference, low=low, high=high)


class NoLoss(Record):
    """Whether a measure of a planned contrast stays within its margin.

    Attributes
    ----------
    stated
        The fall that would matter, as the study states it: such as 0.01, or ``5%`` of the other arm's mean.
    margin
        The same as a number; None if the other arm has no value.
    p, p_holm
        One-sided p of a fall by the margin or more: the larger one of all seeds and of those that pass the
        gate. Then corrected over all planned contrasts and margins. None with too few seeds.
    """

    stated: str
    margin: float | None
    p: float | None
    p_holm: float | None = None


class ArmContrast(Record):
    """The differences between two arms of an objective, `arm` minus `against`, by measure.

    Attributes
    ----------
    planned
        Whether it was named before the study ran.
    standing
        What it is worth: only a planned contrast over ten seeds is a claim.
    ungated
        Number of runs that fail the gate.
    measures
        Over all seeds. Only the primary measures of a planned contrast have a p.
    passing
        Over the seeds of which both runs pass the gate; None if all do.
    no_loss
        By measure with a margin; empty if not planned.
    over_units
        By measure, the difference with an interval over seeds and over tiles or slides, if planned. See
        `dirl.study.statistics.hierarchical`.
    """

    objective: str
    arm: str
    against: str
    planned: bool
    standing: Standing
    ungated: int
    measures: dict[str, Paired]
    passing: dict[str, Paired] | None
    no_loss: Mapping[str, NoLoss] = {}
    over_units: Mapping[str, Estimate] = {}

    @property
    def both(self) -> list[dict[str, Paired]]:
        """The differences over all seeds and, if some fail the gate, over those that pass."""
        return [self.measures, *([self.passing] if self.passing else [])]

    @property
    def primary(self) -> Paired:
        """The difference in the joint map's entropy."""
        return self.measures[PRIMARY]


class StudySummary(Summary):
    """What `dirl study` writes to ``summary.json``.

    Attributes
    ----------
    primary
        Measures that planned contrasts test.
    failed
        Why runs failed, by run.
    contrasts
        The planned ones, then every other pair of arms.
    notes
        Notes of all probes.
    """

    primary: list[str]
    objectives: list[str]
    seeds: list[int]
    failed: dict[str, str]
    arms: list[Arm]
    contrasts: list[ArmContrast]
    notes: list[str]
    runs: list[RunRow]

    @property
    def planned(self) -> list[ArmContrast]:
        """The contrasts that were named before the study ran."""
        return [one for one in self.contrasts if one.planned]

    @property
    def counts(self) -> dict[str, object]:
        """Number of runs."""
        return {"runs": len(self.runs)}

    def rows(self) -> list[dict[str, object]]:
        """A row for each run: its place, and every measure."""
        return [
            {
                "objective": run.objective,
                "arm": run.arm,
                "seed": run.seed,
                "kind": run.kind,
                "failed": run.failed,
                "gate": None if run.gate is None else run.gate.passed,
                **run.measures,
            }
            for run in self.runs
        ]
