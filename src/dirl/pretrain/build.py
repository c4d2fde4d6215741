"""From a recipe to what is trained: encoder, objective, and what makes region tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dirl.config import PretrainRecipe, Settings
from dirl.encoders.pretrained import InitReport, initialise
from dirl.encoders.vit import ViT
from dirl.objectives.base import Objective
from dirl.pretrain.optimiser import freeze
from dirl.prior.tokens import Disentangle


@dataclass(frozen=True)
class Student:
    """What a run trains.

    Attributes
    ----------
    encoder, objective, disentangle
        See `dirl.pretrain.module.PretrainModule`.
    init
        What became of the starting weights; None where they are random.
    """

    encoder: ViT
    objective: Objective
    disentangle: Disentangle | None
    init: InitReport | None


def build(recipe: PretrainRecipe, kind: type[Objective], settings: Settings, regions: int) -> Student:
    """Make the student of a run, a function of the recipe alone (and of the weights that it starts from).

    Parameters
    ----------
    recipe
        The run's.
    kind, settings
        Its objective, from `dirl.objectives.registry.load_objective`.
    regions
        Regions that the prior tells apart; 0 without one.

    Raises
    ------
    EncoderError
        If the encoder cannot be made, or its starting weights are not there or do not fit.
    """
    with seeded(recipe.seed):
        encoder = ViT(recipe.encoder, recipe.views.size_px, masked=kind.masked)
        make_objective: Any = kind  # an objective takes its own settings, not its base class's
        objective: Objective = make_objective(encoder.width, settings, _matched_regions(recipe, regions))
        disentangle = _disentangle(recipe, encoder, regions)
    report = None if recipe.encoder.init is None else initialise(encoder, recipe.encoder.init)
    freeze(encoder, recipe.encoder.frozen_blocks)
    if not kind.trains_patch_embedding:
        encoder.vit.patch_embed.requires_grad_(False)
    return Student(encoder, objective, disentangle, report)


def _matched_regions(recipe: PretrainRecipe, regions: int) -> int:
    """Return how many regions the objective keeps apart; 0 when vanilla."""
    dense = recipe.dense
    if not dense.weight:
        return 0
    return 1 if dense.negatives == "regions" or dense.match == "instance" else max(1, regions)


def _disentangle(recipe: PretrainRecipe, encoder: ViT, regions: int) -> Disentangle | None:
    dense = recipe.dense
    if not dense.weight or dense.extract != "disentangle" or dense.control in ("one", "twice"):
        return None
    queries = 1 if dense.match == "instance" else max(1, regions)
    return Disentangle(encoder.width, encoder.vit.blocks[0].attn.num_heads, queries)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise weights from the seed, and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
