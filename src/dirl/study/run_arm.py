"""One run of a study, from its recipe to its row: pretrain, audit and, if there are labels, score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any

from rich.console import Console

from dirl.audit.results import AuditSummary
from dirl.audit.run import audit
from dirl.config import AuditConfig, PretrainRecipe, RobustConfig
from dirl.core.provenance import note_change, read_card
from dirl.evaluate.probe.run import probe
from dirl.evaluate.robust.conditions import Condition, levels
from dirl.evaluate.robust.run import robust
from dirl.features.embed import embed
from dirl.features.pooling import MEAN, MODEL
from dirl.pretrain.last_checkpoint import remove_checkpoint
from dirl.pretrain.run import pretrain
from dirl.study.matrix import StudyProbe, StudyRun
from dirl.study.results import Measures, Row, RowGate

SHOTS = "4"
"""Number of labelled tiles of each class, in the few-shot score of a row."""


@dataclass(frozen=True)
class Job:
    """A run of a study, and what it needs.

    Attributes
    ----------
    out
        The study's directory. ``runs/``, ``audits/``, ``features/``, ``probes/``, ``token-features/``,
        ``token-probes/`` and ``robust/`` hold a folder for each run under its name.
    alike
        The study's first run of the same architecture. This run reuses the baselines of its features.
    """

    run: StudyRun
    store: Path
    out: Path
    audit: AuditConfig
    probe: StudyProbe | None
    robust: RobustConfig | None
    alike: StudyRun
    device: str
    workers: int
    quiet: bool

    @property
    def recipe(self) -> PretrainRecipe:
        """The recipe, with the encoder of the start if there is one."""
        recipe = self.run.recipe
        if self.run.start is None:
            return recipe
        encoder = recipe.encoder.model_copy(update={"init": str(self.folder("runs", self.run.start))})
        return recipe.model_copy(update={"encoder": encoder})

    def folder(self, kind: str, run: StudyRun | None = None) -> Path:
        """Folder of this run, or of another, in a folder of the study."""
        return self.out / kind / (run or self.run).name


def run_job(job: Job) -> Row:
    """Do the unfinished steps of a run, and return its row.

    The checkpoint is removed at the end. It is several times as large as the encoder, and no longer needed.
    """
    if not job.quiet:
        Console(stderr=True).print(job.run.name, style="bold", markup=False, highlight=False)
    path = job.folder("runs")
    fresh, begun = not (path / "card.json").exists(), monotonic()
    run = pretrain(
        job.recipe, job.store, path, device=job.device, devices=1, workers=job.workers, quiet=job.quiet
    )
    seconds = monotonic() - begun if fresh else None  # not of a run that was interrupted
    audited = audit(
        [str(path)], job.store, job.folder("audits"), job.audit, device=job.device, quiet=job.quiet
    ).summary
    scored = tokens = damaged = None
    if job.probe:
        scored = _probe(job, job.probe)
        tokens = _probe(job, job.probe, MEAN) if job.probe.tokens else None
        damaged = _robust(job, job.probe, job.robust) if job.robust else None
    if "last.ckpt" in read_card(path).files:
        remove_checkpoint(path / "last.ckpt")
        note_change(path, "last.ckpt", "last.ckpt.json")
    measures = (
        _measures(audited, run.metrics)
        | (_scores(scored) if scored is not None else {})
        | (_own_scores(tokens, "_tokens") if tokens is not None else {})
        | (_drifts(damaged) if damaged is not None else {})
        | {"seconds": seconds}
    )
    return Row(
        run=job.run.name,
        objective=job.run.objective,
        arm=job.run.arm,
        seed=job.run.seed,
        kind=job.run.kind,
        failed=None,
        gate=_gate(audited, scored),
        measures=measures,
        notes=[] if scored is None else scored["notes"],
    )


def _gate(audited: AuditSummary, scored: Mapping[str, Any] | None) -> RowGate:
    """The gate is passed if it is without labels and, if there are some, with them too, in either form."""
    (gate,) = audited.gates.values()
    reasons = list(gate.reasons)
    if scored is not None and not scored["gate"]["passed"]:
        reasons.append(scored["gate"]["statement"])
    return RowGate(
        passed=not reasons,
        label_free=gate.passed,
        with_labels=None if scored is None else scored["gate"]["form"] or "failed",
        reasons=reasons,
    )


def _measures(audited: AuditSummary, metrics: Mapping[str, float]) -> Measures:
    kinds = {one.kind: one for one in audited.encoders}
    subject, untrained = kinds["encoder"], kinds["untrained"]
    gate = audited.gates[subject.name]
    first_loss, last_loss = gate.loss or (None, None)
    names = ("entropy", "gini", "effective_tokens", "components50", "top10_mass", "patch_mass")
    return {
        **{name: subject.last_block.per_head[name].value for name in names},
        "entropy_of_mean": subject.last_block.heads_averaged["entropy"].value,
        "entropy_untrained": untrained.last_block.per_head["entropy"].value,
        **{f"enrichment_{name}": value.value for name, value in subject.enrichment.per_head.items()},
        "retrieval": gate.accuracy.encoder,
        "prior_contrast": subject.prior_contrast,
        "loss_first": first_loss,
        "loss_last": last_loss,
        "embedding_std": _finite(metrics.get("embedding/std")),
        "embedding_rank": _finite(metrics.get("embedding/rank")),
    }


def _scores(scored: Mapping[str, Any]) -> Measures:
    """Balanced accuracy of the features, and of their baselines but with few labels."""
    baselines = {"_untrained": "untrained", "_colour": "colour_statistics", "_histogram": "colour_histogram"}
    return _own_scores(scored) | {
        f"{name}{end}": scored["results"][kind][how]["balanced_accuracy"]["value"]
        for name, how in _classifiers(scored).items()
        for end, kind in baselines.items()
    }


def _own_scores(scored: Mapping[str, Any], end: str = "") -> Measures:
    found = scored["results"]["features"]
    few = found["few_shot"].get(SHOTS)  # none where a class has fewer tiles
    scores = {name: found[how]["balanced_accuracy"]["value"] for name, how in _classifiers(scored).items()}
    return {f"{name}{end}": value for name, value in (scores | {"few_shot": few and few["value"]}).items()}


def _classifiers(scored: Mapping[str, Any]) -> dict[str, str]:
    nearest = next(name for name in scored["results"]["features"] if name.startswith("knn"))
    return {"knn": nearest, "linear": "linear"}


def _drifts(damaged: Mapping[str, Any]) -> Measures:
    """Drift by kind of damage, as a share of what lies between tiles; the mean of its severities."""
    conditions = damaged["results"]["features"]["conditions"]
    return {
        f"drift_{kind}": fmean(
            conditions[str(Condition(kind, level))]["drift_share"]["value"]
            for level in levels(kind, damaged["severities"])
        )
        for kind in damaged["damage"]
    }


def _probe(job: Job, asked: StudyProbe, pool: str = MODEL) -> dict[str, Any]:
    """Embed tiles and score the features, beside their baselines."""
    kind = "" if pool == MODEL else "token-"
    features, alike = job.folder(f"{kind}features"), job.folder(f"{kind}features", job.alike)
    # The baselines need a forward pass of their own, as long as the encoder's: once is enough.
    known = alike != features and (alike / "card.json").exists() and read_card(alike, "embed").finished
    embed(
        str(job.folder("runs")),
        _scored_store(job, asked),
        features,
        pool=pool,
        tiles=asked.tiles,
        seed=asked.seed,
        baselines=alike if known else True,
        device=job.device,
        quiet=job.quiet,
    )
    out = job.folder(f"{kind}probes")
    return probe(features, asked.labels, out, asked.settings, quiet=job.quiet).summary.to_json()


def _robust(job: Job, asked: StudyProbe, config: RobustConfig) -> dict[str, Any]:
    """Embed damaged tiles of those that are scored; a row shows no baselines of it."""
    return robust(
        str(job.folder("runs")),
        _scored_store(job, asked),
        asked.labels,
        job.folder("robust"),
        config,
        baselines=False,
        device=job.device,
        quiet=job.quiet,
    ).summary.to_json()


def _scored_store(job: Job, asked: StudyProbe) -> Path:
    return Path(asked.store) if asked.store else job.store


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
