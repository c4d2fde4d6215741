"""Make what a run trains: an encoder, an objective and, for ``extract: disentangle``, a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dirl.config import EncoderConfig, Settings
from dirl.encoders.pretrained import InitReport, initialise
from dirl.encoders.vit import ViT
from dirl.objectives.base import AnyObjective, MaskedObjective
from dirl.pretrain.optimiser import freeze
from dirl.prior.dense_term import DenseTerm
from dirl.prior.tokens import Disentangle


@dataclass(frozen=True)
class Student:
    """What a run trains.

    Attributes
    ----------
    encoder
        The encoder.
    objective
        Its objective, with the heads.
    disentangle
        The block that extracts regions; None if there is none.
    init
        Report on the starting weights; None if they are random.
    """

    encoder: ViT
    objective: AnyObjective
    disentangle: Disentangle | None
    init: InitReport | None

    def modules(self) -> dict[str, nn.Module]:
        """Return everything that is trained, by name."""
        modules: dict[str, nn.Module] = {"encoder": self.encoder, "objective": self.objective}
        return modules if self.disentangle is None else {**modules, "disentangle": self.disentangle}


def build(
    encoder_config: EncoderConfig,
    kind: type[AnyObjective],
    settings: Settings,
    dense: DenseTerm | None,
    *,
    view_px: int,
    seed: int,
) -> Student:
    """Make the student of a run, a function of the arguments and of the weights that it starts from.

    Parameters
    ----------
    encoder_config
        The encoder.
    kind, settings
        The objective, from `dirl.objectives.base.load_objective`.
    dense
        The dense term; None for a vanilla run.
    view_px
        Side of the global views.
    seed
        Key of the random weights.

    Raises
    ------
    EncoderError
        If the encoder cannot be made, or its starting weights are missing or do not fit.
    """
    with seeded(seed):
        encoder = ViT(encoder_config, view_px, masked=issubclass(kind, MaskedObjective))
        make_objective: Any = kind  # the arguments are stated in `Objective`; its own __init__ takes heads
        objective: AnyObjective = make_objective(encoder.width, settings, dense.loss_regions if dense else 0)
        heads = encoder.vit.blocks[0].attn.num_heads
        disentangle = dense.make_block(encoder.width, heads) if dense else None
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
