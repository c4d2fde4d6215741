"""What a study found: the types of its rows and of its ``summary.json``."""

from dataclasses import dataclass, replace
from typing import Literal

from dirl.core.results import Record, Summary
from dirl.evaluate.probe.summary import GateForm
from dirl.study.matrix import ArmKind

PRIMARY = "entropy_joint"
"""The measure of planned contrasts: normalised entropy of the joint map (docs/method.md)."""

Measures = dict[str, float | None]
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
        By name, see `dirl.study.summarise.TITLES`.
    notes
        Notes of the probe.
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
    """

    seeds: int
    difference: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def turned(self) -> "Paired":
        """The difference with the arms exchanged."""
        difference, low, high = (
            None if end is None else -end for end in (self.difference, self.high, self.low)
        )
        return replace(self, difference=difference, low=low, high=high)


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
        Over all seeds. Only the primary measure of a planned contrast has a p.
    passing
        Over the seeds of which both runs pass the gate; None if all do.
    p_holm, p_holm_passing
        Corrected over all planned contrasts of the study; absent if not planned.
    """

    objective: str
    arm: str
    against: str
    planned: bool
    standing: Standing
    ungated: int
    measures: dict[str, Paired]
    passing: dict[str, Paired] | None
    p_holm: float | None = None
    p_holm_passing: float | None = None

    @property
    def primary(self) -> Paired:
        """The difference in the primary measure."""
        return self.measures[PRIMARY]


class StudySummary(Summary):
    """What `dirl study` writes to ``summary.json``.

    Attributes
    ----------
    failed
        Why runs failed, by run.
    contrasts
        The planned ones, then every other pair of arms.
    notes
        Notes of all probes.
    """

    primary: str
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
