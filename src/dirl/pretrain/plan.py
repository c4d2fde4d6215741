"""What a run will do: everything that can be refused before its directory is made."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dirl.config import ObjectiveConfig, PretrainRecipe
from dirl.encoders.weights import weights_digest
from dirl.objectives.base import load_objective
from dirl.pretrain.build import Student, build
from dirl.pretrain.checks import check, check_local_views
from dirl.pretrain.data import Loaders, TileBatches, held_out
from dirl.pretrain.schedule import Schedule, schedule_of
from dirl.pretrain.trainer import Devices
from dirl.prior.dense_term import DenseTerm, make_dense_term
from dirl.store.dataset import CellStore, TileStore
from dirl.store.select import count_kept


@dataclass(frozen=True)
class Plan:
    """What a run will do, checked before its directory is made.

    Attributes
    ----------
    recipe
        With all settings of the objective.
    tiles
        The store.
    dense
        The dense term; None for a vanilla run.
    student
        What is trained.
    schedule
        Length of the run.
    held_out
        Bool ``(tiles,)``: never trained on.
    loaders
        Makes the loader, of all other tiles.
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


def make_plan(recipe: PretrainRecipe, tiles: TileStore, where: Devices, workers: int) -> Plan:
    """Put a run together, and refuse what it cannot do.

    Raises
    ------
    StoreError
        If the store lacks cells or centres.
    ConfigError
        If the recipe, its objective and the number of tiles do not fit together.
    """
    kind, settings = load_objective(recipe.objective)
    recipe = recipe.model_copy(
        update={"objective": ObjectiveConfig(name=recipe.objective.name, **settings.model_dump())}
    )
    check(recipe, kind, where.ranks)
    schedule = schedule_of(recipe)
    dense = make_dense_term(recipe.dense, tiles, recipe.cells, recipe.seed)
    student = build(recipe.encoder, kind, settings, dense, view_px=recipe.views.size_px, seed=recipe.seed)
    check_local_views(recipe.views, student.encoder.patch_px)
    out_of_training = held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed)
    kept = np.flatnonzero(~out_of_training)
    batches = TileBatches(tiles, None if dense is None else dense.source)
    centres = tiles.centres if recipe.balance == "centre" else None
    loaders = Loaders(batches, schedule, kept, centres, workers, where.gpu)
    # Fail early if the selected tiles are fewer than a batch.
    share, of_slides = recipe.select or 1, np.unique(tiles.slide_ids[kept], return_counts=True)[1]
    few = kept[: sum(count_kept(count, share) for count in of_slides.tolist())]
    replace(loaders, indices=few)(0, 0, where.ranks)
    return Plan(recipe, tiles, dense, student, schedule, out_of_training, loaders)
