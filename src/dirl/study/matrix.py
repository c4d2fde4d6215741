"""The matrix of a study: objectives × arms × seeds over one recipe, and the planned contrasts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from dirl.config import (
    LABEL_COLUMNS,
    AuditConfig,
    Count,
    DenseConfig,
    PretrainRecipe,
    ProbeConfig,
    RobustConfig,
    Settings,
    TaskConfig,
    TokensConfig,
    load_recipe,
    make,
    read_settings,
)
from dirl.core.errors import ConfigError
from dirl.study.measures import COMPARED, KEPT, PRIMARY
from dirl.tables.label_column import join_source, split_source

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
ArmKind = Literal["vanilla", "dirl", "control", "noise", "start"]

Margin = (
    Annotated[float, Field(gt=0, allow_inf_nan=False)]
    | Annotated[str, Field(pattern=r"^(0?\.[0-9]*[1-9]|[1-9][0-9]?(\.[0-9]+)?) ?%$")]
)
"""A fall that would matter: absolute, or as ``5%`` of the mean of the arm that is compared with."""

MOST_RUNS = 10_000
START = "start"
"""The arm with whose encoder the others begin."""


class StudyProbe(TaskConfig):
    """How the runs are scored.

    ``labels`` are those of `dirl probe`. ``tiles`` is the number of scored tiles, None for all. ``store``
    holds the scored tiles; None is the store of the training. ``tokens`` also scores the mean of the patch
    tokens.
    """

    labels: str
    tiles: Count | None = None
    store: str | None = None
    tokens: bool = False

    @property
    def settings(self) -> ProbeConfig:
        """The settings of `dirl probe`."""
        return ProbeConfig(**self.model_dump(include={*ProbeConfig.model_fields}))


class StudyTokens(TokensConfig):
    """How the patch tokens of the runs are scored: settings of `dirl tokens`, and a store with true cells."""

    store: str

    @model_validator(mode="after")
    def _nuclei(self) -> "StudyTokens":
        if self.masks is not None:
            raise ValueError("masks: a study scores tokens on nuclei; use dirl tokens for masks")
        return self

    @property
    def settings(self) -> TokensConfig:
        """The settings of `dirl tokens`."""
        return TokensConfig(**self.model_dump(include={*TokensConfig.model_fields}))


class StudyConfig(Settings):
    """A matrix of runs, ``OBJECTIVE/ARM/seed-N``, and what is measured of each.

    A run's recipe is ``recipe``, changed by ``set``, then by its objective, its arm and its seed. A dotted
    key sets one value, a mapping replaces its section. ``seeds`` is a list, or their number.

    ``start`` is an arm that is trained first, once for each objective and seed. All other arms begin with its
    encoder.

    ``contrasts`` are pairs (arm, against arm) within every objective; ``start`` counts as an arm. Each tests
    the measures in ``primary``. ``margins`` names measures that must not fall, each with the fall that would
    matter. ``gate`` says whose gate leaves out a seed: that of both runs, or that of their start alone.

    Without ``probe`` no downstream score is measured. ``robust`` measures the effect of damage on the
    features of some scored tiles. ``tokens`` scores patch tokens on nuclei and their classes.
    """

    recipe: str
    set: Mapping[str, Any] = {}
    objectives: Annotated[Mapping[Name, Mapping[str, Any]], Field(min_length=1)]
    arms: Annotated[Mapping[Name, Mapping[str, Any]], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    start: Mapping[str, Any] | None = None
    contrasts: tuple[tuple[str, str], ...] = ()
    primary: tuple[str, ...] = (PRIMARY,)
    margins: Mapping[str, Margin] = {}
    gate: Literal["runs", "starts"] = "runs"
    audit: AuditConfig = AuditConfig(tiles=256)
    probe: StudyProbe | None = None
    robust: RobustConfig | None = None
    tokens: StudyTokens | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if value > MOST_RUNS:  # they would fill the memory before any other check
            raise ValueError(f"a study has at most {MOST_RUNS} runs")
        return tuple(range(value))

    @field_validator("objectives", "arms", mode="before")
    @classmethod
    def _nothing_changed(cls, value: Any) -> Any:
        """Take an empty ``vanilla:`` as no change."""
        if not isinstance(value, Mapping):
            return value
        return {name: {} if changes is None else changes for name, changes in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        runs = len(self.seeds) * len(self.objectives) * len(self.all_arms)
        if runs > MOST_RUNS:
            raise ValueError(f"{runs} runs, and a study has at most {MOST_RUNS}; divide it into several")
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError("seeds: one is given twice")
        if START in self.arms:
            raise ValueError(f"arms: {START} is what all arms begin with, and is set beside them")
        seen = {frozenset[str]()}
        for pair in self.contrasts:
            for arm in pair:
                if arm not in self.all_arms:
                    raise ValueError(f"contrasts: no arm {arm} (there are: {', '.join(self.all_arms)})")
            if pair[0] == pair[1] or frozenset(pair) in seen:
                raise ValueError(f"contrasts: {' against '.join(pair)} is given twice, or is against itself")
            seen.add(frozenset(pair))
        self._check_statistics()
        for changes in (self.set, self.start or {}, *self.objectives.values(), *self.arms.values()):
            if "seed" in changes:
                raise ValueError("the seed of a run is set by seeds, not by its recipe")
            if "encoder.init" in changes and self.start is not None:
                raise ValueError("encoder.init: with start, arms begin with its encoder")
        if self.robust is not None and self.probe is None:
            raise ValueError("robust: it takes its tiles and labels from probe, which is not set")
        return self

    def _check_statistics(self) -> None:
        if unknown := next((name for name in self.primary if name not in COMPARED), None):
            raise ValueError(f"primary: no measure {unknown} (there are: {', '.join(COMPARED)})")
        if PRIMARY not in self.primary or len({*self.primary}) < len(self.primary):
            raise ValueError(f"primary: name {PRIMARY}, and each measure once")
        if unknown := next((name for name in self.margins if name not in KEPT), None):
            raise ValueError(
                f"margins: {unknown} is no measure that can be lost (these are: {', '.join(KEPT)})"
            )
        if self.gate == "starts" and self.start is None:
            raise ValueError("gate: starts needs a start, which is not set")

    @property
    def all_arms(self) -> tuple[str, ...]:
        """All arms; the start, if there is one, is first."""
        return (*([] if self.start is None else [START]), *self.arms)


@dataclass(frozen=True)
class StudyRun:
    """One run of the matrix: its place, its recipe, and the run with whose encoder it begins."""

    objective: str
    arm: str
    seed: int
    recipe: PretrainRecipe
    start: "StudyRun | None" = None

    @property
    def name(self) -> str:
        """Its path in the study's directories."""
        return f"{self.objective}/{self.arm}/seed-{self.seed}"

    @property
    def kind(self) -> ArmKind:
        """Vanilla, DiRL, DiRL with damaged cells, a control without them, or the start."""
        if self.arm == START:
            return "start"
        return self.recipe.role


def load_study(spec: str | Path) -> StudyConfig:
    """Read a study's YAML file, or one that ships with dirl, by name.

    A relative path to a recipe, labels or stores is first tried from the folder of the study.

    Raises
    ------
    ConfigError
        If there is no such study, or its settings are wrong.
    """
    study = make(StudyConfig, read_settings(spec, "studies"), where=spec)
    found: dict[str, Any] = {}
    if (beside := Path(spec).parent / study.recipe).is_file():
        found["recipe"] = str(beside)
    if probe := study.probe:
        there: dict[str, str] = {}
        if probe.store and (beside := Path(spec).parent / probe.store).exists():
            there["store"] = str(beside)
        file, column = split_source(probe.labels)
        if probe.labels not in LABEL_COLUMNS and (beside := Path(spec).parent / file).exists():
            there["labels"] = join_source(beside, column)
        found["probe"] = probe.model_copy(update=there)
    if tokens := study.tokens:
        beside = Path(spec).parent / tokens.store
        found["tokens"] = tokens.model_copy(update={"store": str(beside)} if beside.exists() else {})
    return study.model_copy(update=found)


def expand(study: StudyConfig) -> tuple[StudyRun, ...]:
    """Return all runs of the first seed, then of the next; starts come before the other arms.

    Raises
    ------
    ConfigError
        If a run's recipe is not valid, or two runs would be the same.
    """
    runs: list[StudyRun] = []
    known: dict[str, str] = {}
    for seed in study.seeds:
        starts: dict[str, StudyRun] = {}
        if study.start is not None:
            for objective in study.objectives:
                recipe = _recipe(study, objective, START, study.start, seed)
                starts[objective] = StudyRun(objective, START, seed, recipe)
        runs += starts.values()
        for objective in study.objectives:
            for arm, changes in study.arms.items():
                recipe = _recipe(study, objective, arm, changes, seed)
                runs.append(StudyRun(objective, arm, seed, recipe, starts.get(objective)))
                # With weight 0 the other settings of the dense term have no effect.
                dense = recipe.dense if recipe.dense.weight else DenseConfig(weight=0)
                key = recipe.model_copy(update={"dense": dense}).model_dump_json()
                if key in known:
                    raise ConfigError(
                        f"{objective}/{arm} and {known[key]} are the same recipe", where="the study"
                    )
                known[key] = f"{objective}/{arm}"
    return tuple(runs)


def _recipe(
    study: StudyConfig, objective: str, arm: str, changes: Mapping[str, Any], seed: int
) -> PretrainRecipe:
    items = [*_items(study.set), *_items(study.objectives[objective]), *_items(changes), f"seed={seed}"]
    try:
        return load_recipe(study.recipe, items)
    except ConfigError as error:
        where = f"{objective}/{arm} of the study"
        raise ConfigError(error.reason, where=where, remedy=error.remedy) from None


def _items(changes: Mapping[str, Any]) -> list[str]:
    """Write changes as the ``key=value`` items that a recipe takes."""
    return [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]
