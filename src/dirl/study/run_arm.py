"""One run of a study, from its recipe to its row: pretrain, audit and, if there are labels, score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import monotonic

from dirl.audit.run import audit
from dirl.audit.summary import AuditSummary
from dirl.config import AuditConfig, EmbedConfig, Pool, PretrainRecipe, RobustConfig
from dirl.core.card import note_change, read_card
from dirl.core.layout import CARD
from dirl.core.progress import say
from dirl.evaluate.probe.run import probe
from dirl.evaluate.probe.summary import ProbeScores, ProbeSummary
from dirl.evaluate.robust.conditions import Condition, damage_levels
from dirl.evaluate.robust.run import robust
from dirl.evaluate.robust.summary import RobustSummary
from dirl.evaluate.tokens.read import NUCLEI, RGB_AROUND, UNTRAINED
from dirl.evaluate.tokens.run import tokens as score_tokens
from dirl.evaluate.tokens.summary import TokensSummary
from dirl.features.baselines import FEATURES, Baseline
from dirl.features.embed import embed
from dirl.features.pooling import MEAN, MODEL
from dirl.pretrain.last_checkpoint import remove_checkpoint
from dirl.pretrain.run import pretrain
from dirl.study.matrix import StudyProbe, StudyRun, StudyTokens
from dirl.study.measures import PRIMARY
from dirl.study.run_units import attention_units, probe_units
from dirl.study.summary import Measures, RowGate, RunRow

SHOTS = "4"
"""Number of labelled tiles of each class, in the few-shot score of a row."""


@dataclass(frozen=True)
class Job:
    """A run of a study, and what it needs.

    Attributes
    ----------
    out
        The study's directory. ``runs/``, ``audits/``, ``features/``, ``probes/``, ``token-features/``,
        ``token-probes/``, ``robust/`` and ``tokens/`` hold a folder for each run under its name.
    alike
        The study's first run of the same architecture. This run reuses the baselines of its features. Only
        that run scores the baselines of tokens, which are the same for all.
    """

    run: StudyRun
    store: Path
    out: Path
    audit: AuditConfig
    probe: StudyProbe | None
    robust: RobustConfig | None
    tokens: StudyTokens | None
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


def run_job(job: Job) -> RunRow:
    """Do the unfinished steps of a run, and return its row.

    The checkpoint is removed at the end. It is several times as large as the encoder, and no longer needed.
    """
    say(job.run.name, quiet=job.quiet)
    path = job.folder("runs")
    fresh, begun = not (path / CARD).exists(), monotonic()
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
    of_tokens = _tokens(job, job.tokens) if job.tokens else None
    if "last.ckpt" in read_card(path).files:
        remove_checkpoint(path / "last.ckpt")
        note_change(path, "last.ckpt", "last.ckpt.json")
    measures = (
        _measures(audited, run.metrics)
        | (_scores(scored) if scored is not None else {})
        | (_own_scores(tokens, "_tokens") if tokens is not None else {})
        | (_drifts(damaged) if damaged is not None else {})
        | (_token_scores(of_tokens) if of_tokens is not None else {})
        | {"seconds": seconds}
    )
    return RunRow(
        run=job.run.name,
        objective=job.run.objective,
        arm=job.run.arm,
        seed=job.run.seed,
        kind=job.run.kind,
        failed=None,
        gate=_gate(audited, scored),
        measures=measures,
        notes=[] if scored is None else list(scored.notes),
        units=attention_units(job.folder("audits"))
        | ({} if scored is None else probe_units(job.folder("probes"))),
    )


def _gate(audited: AuditSummary, scored: ProbeSummary | None) -> RowGate:
    """Join the label-free gate and, if there are labels, the gate with labels."""
    (gate,) = audited.gates.values()
    reasons = list(gate.reasons)
    if scored is not None and not scored.gate.passed:
        reasons.append(scored.gate.statement)
    return RowGate(
        passed=not reasons,
        label_free=gate.passed,
        with_labels=None if scored is None else scored.gate.form or "failed",
        reasons=reasons,
    )


def _measures(audited: AuditSummary, metrics: Mapping[str, float]) -> Measures:
    kinds = {one.kind: one for one in audited.encoders}
    subject, untrained = kinds["encoder"], kinds["untrained"]
    gate = audited.gates[subject.name]
    first_loss, last_loss = gate.loss or (None, None)
    names = ("entropy_tissue", "head_diversity", "gini", "effective_tokens", "components50", "top10_mass")
    joint = subject.last_block.joint
    return {
        PRIMARY: subject.primary.value,
        **{name: joint[name].value for name in (*names, "patch_mass")},
        "entropy_training": subject.entropy_training.value if subject.entropy_training else None,
        "entropy_per_head": subject.last_block.per_head["entropy"].value,
        "entropy_untrained": untrained.primary.value,
        "rank_held_out": gate.rank,
        **{f"enrichment_{name}": value.value for name, value in subject.enrichment.joint.items()},
        "retrieval": gate.accuracy.encoder,
        "prior_contrast": subject.prior_contrast,
        "loss_first": first_loss,
        "loss_last": last_loss,
        "embedding_std": _finite(metrics.get("embedding/std")),
        "embedding_rank": _finite(metrics.get("embedding/rank")),
    }


def _scores(scored: ProbeSummary) -> Measures:
    """Balanced accuracy of the features and of their baselines; with few labels, of the features alone."""
    ends = {
        "_untrained": Baseline.UNTRAINED,
        "_colour": Baseline.COLOUR_STATISTICS,
        "_histogram": Baseline.COLOUR_HISTOGRAM,
    }
    found = {end: _accuracies(scored.results[baseline]) for end, baseline in ends.items()}
    return _own_scores(scored) | {
        f"{name}{end}": scores[name] for name in ("knn", "linear") for end, scores in found.items()
    }


def _own_scores(scored: ProbeSummary, end: str = "") -> Measures:
    found = scored.results[FEATURES]
    few = found.few_shot.get(SHOTS)  # none if a class has fewer tiles
    scores = _accuracies(found) | {"few_shot": None if few is None else few.value}
    return {f"{name}{end}": value for name, value in scores.items()}


def _accuracies(scores: ProbeScores) -> Measures:
    nearest = next(name for name in scores.classifiers if name.startswith("knn"))
    return {
        "knn": scores.classifiers[nearest].balanced_accuracy.value,
        "linear": scores.linear.balanced_accuracy.value,
    }


def _token_scores(found: TokensSummary) -> Measures:
    """AUROC for nuclei and balanced accuracy of their classes: of the encoder's tokens and of baselines."""
    ends = {FEATURES: "", UNTRAINED: "_untrained", RGB_AROUND: "_colour"}
    scores = {end: found.results[name] for name, end in ends.items() if name in found.results}
    nuclei: Measures = {f"token_nuclei{end}": one.areas[NUCLEI].auroc.value for end, one in scores.items()}
    types: Measures = {
        f"token_types{end}": one.types.balanced_accuracy.value for end, one in scores.items() if one.types
    }
    return nuclei | types


def _drifts(damaged: RobustSummary) -> Measures:
    """Drift for each kind of damage, as a share of the spread of tiles: the mean over its severities."""
    found = damaged.results[FEATURES]
    return {
        f"drift_{kind}": _mean(
            [
                found.at(Condition(kind, level)).drift_share.value
                for level in damage_levels(kind, damaged.severities)
            ]
        )
        for kind in damaged.damage
    }


def _mean(values: list[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return fmean(given) if len(given) == len(values) else None


def _probe(job: Job, asked: StudyProbe, pool: Pool = MODEL) -> ProbeSummary:
    """Embed tiles and score the features, and their baselines."""
    kind = "" if pool == MODEL else "token-"
    features, alike = job.folder(f"{kind}features"), job.folder(f"{kind}features", job.alike)
    # The untrained baseline costs another forward pass, so runs of one architecture share it.
    reused = alike != features and (alike / CARD).exists() and read_card(alike, "embed").finished
    embed(
        str(job.folder("runs")),
        _scored_store(job, asked),
        features,
        EmbedConfig(pool=pool, tiles=asked.tiles, seed=asked.seed),
        baselines=alike if reused else True,
        device=job.device,
        quiet=job.quiet,
    )
    out = job.folder(f"{kind}probes")
    return probe(features, asked.labels, out, asked.settings, quiet=job.quiet).summary


def _robust(job: Job, asked: StudyProbe, config: RobustConfig) -> RobustSummary:
    """Embed damaged copies of some of the scored tiles; without baselines, since a row has none."""
    return robust(
        str(job.folder("runs")),
        _scored_store(job, asked),
        asked.labels,
        job.folder("robust"),
        config,
        baselines=False,
        device=job.device,
        quiet=job.quiet,
    ).summary


def _tokens(job: Job, asked: StudyTokens) -> TokensSummary:
    return score_tokens(
        str(job.folder("runs")),
        Path(asked.store),
        job.folder("tokens"),
        asked.settings,
        baselines=job.alike == job.run,
        device=job.device,
        quiet=job.quiet,
    ).summary


def _scored_store(job: Job, asked: StudyProbe) -> Path:
    return Path(asked.store) if asked.store else job.store


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
