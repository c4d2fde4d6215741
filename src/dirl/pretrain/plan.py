"""What a run will do: its student, checks and tiles. A recipe that cannot be trained is refused here."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dirl.config import EncoderConfig, ObjectiveConfig, PretrainRecipe, Settings, ViewsConfig
from dirl.core.errors import ConfigError, DirlWarning
from dirl.encoders.pretrained import InitReport, initialise
from dirl.encoders.vit import ViT
from dirl.encoders.weights import weights_digest
from dirl.objectives.base import AnyObjective, MaskedObjective, ObjectiveFactory, load_objective
from dirl.pretrain.data import Loaders, Schedule, TileBatches, schedule_of
from dirl.pretrain.devices import Devices
from dirl.pretrain.optimiser import freeze
from dirl.prior.coverage import COARSE_UM
from dirl.prior.dense_term import DenseTerm, make_dense_term
from dirl.prior.tokens import Disentangle
from dirl.store.dataset import CellStore, TileStore
from dirl.store.select import count_kept
from dirl.store.subsample import held_out


@dataclass(frozen=True)
class Student:
    """What a run trains; `disentangle` extracts regions, and `init` reports on the starting weights."""

    encoder: ViT
    objective: AnyObjective
    disentangle: Disentangle | None
    init: InitReport | None

    def modules(self) -> dict[str, nn.Module]:
        """Return everything that is trained, by name."""
        modules: dict[str, nn.Module] = {"encoder": self.encoder, "objective": self.objective}
        return modules if self.disentangle is None else {**modules, "disentangle": self.disentangle}


@dataclass(frozen=True)
class TrainingPlan:
    """What a run will do, checked before its directory is made.

    The recipe has all settings of the objective. `dense` is None for a vanilla run. `held_out` (tiles,) tells
    which tiles are never trained on; `loaders` read all others.
    """

    recipe: PretrainRecipe
    tiles: TileStore
    dense: DenseTerm | None
    student: Student
    schedule: Schedule
    held_out: NDArray[np.bool_]
    loaders: Loaders

    @property
    def cells(self) -> CellStore | None:
        """The cells that the dense term reads."""
        return None if self.dense is None else self.dense.source.cells

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what the run reads."""
        # The index names the tiles. How they were cut decides whether a tile elsewhere may be a held-out one.
        inputs = {"store": self.tiles.digest, "tiling": self.tiles.card.digest}
        if self.cells is not None:
            inputs["cells"] = self.cells.card.digest
        if self.student.init is not None:
            inputs["init"] = weights_digest(self.student.encoder.vit)
        return inputs


def plan_training(recipe: PretrainRecipe, tiles: TileStore, where: Devices, workers: int) -> TrainingPlan:
    """Put a run together, and refuse what the recipe, its objective, its encoder and the store cannot do."""
    kind, settings = load_objective(recipe.objective)
    recipe = recipe.model_copy(
        update={"objective": ObjectiveConfig(name=recipe.objective.name, **settings.model_dump())}
    )
    check_recipe(recipe, kind, where.ranks)
    schedule = schedule_of(recipe)
    dense = make_dense_term(recipe.dense, tiles, recipe.cells, recipe.seed)
    student = make_student(
        recipe.encoder, kind, settings, dense, view_px=recipe.views.size_px, seed=recipe.seed
    )
    _check_local_views(recipe.views, student.encoder.patch_px)
    out_of_training = held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed)
    kept = np.flatnonzero(~out_of_training)
    batches = TileBatches(tiles, None if dense is None else dense.source)
    centres = tiles.centres if recipe.balance == "centre" else None
    loaders = Loaders(batches, schedule, kept, centres, workers, where.gpu)
    # Fail early if the selected tiles are fewer than a batch.
    share, of_slides = recipe.select or 1, np.unique(tiles.slide_ids[kept], return_counts=True)[1]
    few = kept[: sum(count_kept(count, share) for count in of_slides.tolist())]
    replace(loaders, indices=few)(0, 0, where.ranks)
    return TrainingPlan(recipe, tiles, dense, student, schedule, out_of_training, loaders)


def make_student(
    encoder_config: EncoderConfig,
    kind: type[AnyObjective],
    settings: Settings,
    dense: DenseTerm | None,
    *,
    view_px: int,
    seed: int,
) -> Student:
    """Make the student of a run, a function of the arguments and of the weights that it starts from.

    `kind` and `settings` are from `load_objective`; `view_px` is the side of the global views.
    """
    with seeded(seed):
        encoder = ViT(encoder_config, view_px, masked=issubclass(kind, MaskedObjective))
        make_objective = cast("ObjectiveFactory", kind)  # __init__ of the base takes heads instead
        objective = make_objective(encoder.width, settings, dense.loss_regions if dense else 0)
        heads = encoder.vit.blocks[0].attn.num_heads
        disentangle = dense.make_block(encoder.width, heads) if dense else None
        if dense and dense.half_heads:
            encoder.region_heads = heads // 2
    report = None if encoder_config.init is None else initialise(encoder, encoder_config.init)
    freeze(encoder, encoder_config.frozen_blocks)
    if not kind.trains_patch_embedding:
        encoder.vit.patch_embed.requires_grad_(False)
    return Student(encoder, objective, disentangle, report)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise weights from the seed, and restore the caller's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_recipe(recipe: PretrainRecipe, kind: type[AnyObjective], ranks: int) -> None:
    """Refuse a recipe that its objective cannot carry out, with the key to change."""
    name, parts = recipe.objective.name, recipe.optimiser.accumulate * ranks
    if recipe.views.local_count and not kind.multi_crop:
        remedy = "set views.local_count=0, or choose dino or dinov2"
        raise ConfigError(f"{name} takes no local views", where="views.local_count", remedy=remedy)
    if recipe.dense.negatives == "regions" and not kind.contrastive:
        raise ConfigError(f"{name} has no negatives", where="dense.negatives", remedy="set it to tiles")
    if recipe.encoder.drop_tokens and issubclass(kind, MaskedObjective):
        reason = f"{name} masks patch tokens, and dropped tokens cannot be masked"
        raise ConfigError(reason, where="encoder.drop_tokens", remedy="set it to 0")
    if recipe.batch % parts:
        reason = f"a batch of {recipe.batch} cannot be cut into {parts} equal parts"
        raise ConfigError(reason, where="batch", remedy=f"use a multiple of {parts}")
    if recipe.batch // parts < kind.smallest_batch:
        reason = f"{name} compares tiles with each other, and needs {kind.smallest_batch} at a time"
        raise ConfigError(
            f"{reason} on each device", where="batch", remedy="raise batch, or lower optimiser.accumulate"
        )


def _check_local_views(views: ViewsConfig, patch_px: int) -> None:
    """Refuse local views that are not a whole number of patches, with a size that fits."""
    side = views.local_size_px
    if views.local_count and side % patch_px:
        reason = f"a local view of {side} px is no whole number of patches of {patch_px} px"
        fitting = side // patch_px * patch_px or patch_px
        raise ConfigError(reason, where="views.local_size_px", remedy=f"use {fitting}")


def warn_if_coarse(views: ViewsConfig, tiles: TileStore, patch_px: int) -> None:
    """Warn if a patch token is too large to separate nuclei from the rest, with the numbers."""
    low, high = views.crop_area
    tile_per_view_px = math.sqrt((low + high) / 2) * tiles.spec.size_px / views.size_px  # of the mean crop
    token_um = patch_px * tiles.spec.mpp * tile_per_view_px
    if token_um > COARSE_UM:
        warnings.warn(
            f"tokens of {token_um:.1f} µm are coarse: above {COARSE_UM:g} µm nuclei and the rest weigh "
            "nearly the same tokens; use a smaller encoder.patch_px or a finer mpp",
            category=DirlWarning,
            stacklevel=4,
        )


def warn_of_start(encoder: EncoderConfig, report: InitReport) -> None:
    """Warn of starting weights that do not fit, and of a normalisation that they were not trained with."""
    left = {"missing": report.missing, "unexpected": report.unexpected, "resampled": report.resampled}
    counts = [f"{len(names)} {kind} (such as {names[0]})" for kind, names in left.items() if names]
    if counts:
        warnings.warn(
            f"of the weights of {encoder.init}: {', '.join(counts)}; init.json lists them",
            category=DirlWarning,
            stacklevel=4,
        )
    mine = (encoder.mean, encoder.std)
    if report.normalisation is not None and not np.allclose(report.normalisation, mine):
        mean, std = (list(part) for part in report.normalisation)
        warnings.warn(
            f"{encoder.init} was trained with another normalisation: set encoder.mean to {mean} "
            f"and encoder.std to {std}",
            category=DirlWarning,
            stacklevel=4,
        )
