"""DINOv2's recipe: DINO with Sinkhorn, masked patch tokens as in iBOT, and KoLeo."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.loss import KoLeoLoss
from pydantic import model_validator
from torch import Tensor, nn

from dirl.config import Positive, Share
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import MaskedObjective, Teacher, Terms
from dirl.objectives.distillation import DistillationConfig, DistillationObjective, prototype_head
from dirl.objectives.distributed import full_precision, gather_padded
from dirl.objectives.losses import cross_entropy, sinkhorn
from dirl.views.masking import Masking


class DINOv2Config(DistillationConfig):
    """The settings of `DistillationConfig`, the weights of the other terms, and how views are masked.

    A global view is masked with probability ``p_mask``. The share of its patch tokens that is masked lies
    within ``mask_share``.
    """

    ibot_weight: Positive = 1.0
    koleo_weight: Positive = 0.1
    p_mask: Share = 0.5
    mask_share: tuple[Share, Share] = (0.1, 0.5)

    @model_validator(mode="after")
    def _ordered(self) -> "DINOv2Config":
        if self.mask_share[0] > self.mask_share[1]:
            raise ValueError(f"mask_share must be (smaller, larger), got {self.mask_share}")
        return self


class DINOv2(DistillationObjective, MaskedObjective):
    """The objective of DINOv2 (Oquab et al., 2023, arXiv 2304.07193, section 4).

    Class tokens are distilled as in DINO and masked patch tokens as in iBOT, each with a head of its own.
    Sinkhorn's iterations replace the centring. KoLeo spreads the student's class tokens. Its group is one
    global view of all tiles of the batch, on all ranks; the paper's code takes the tiles of one GPU. The
    dense loss distils region tokens like class tokens, with Sinkhorn for each region by itself.
    """

    Config = DINOv2Config
    multi_crop = True

    config: DINOv2Config

    def __init__(self, width: int, config: DINOv2Config, regions: int) -> None:
        projector = partial(prototype_head, width, config)
        super().__init__(
            projector,
            config.prototypes,
            regions,
            momentum=config.momentum,
            masking=Masking(config.p_mask, config.mask_share),
        )
        self.patch_projector: nn.Module = projector()
        self.config = config
        self.temperature = config.temperature_at(0)
        self.koleo = KoLeoLoss()

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Terms:
        """Distil class tokens and masked patch tokens, and spread the class tokens."""
        v, b = len(teacher.tokens), len(student[0].cls)
        logits = self.projector(torch.cat([view.cls for view in student])).view(len(student), b, -1)
        with torch.no_grad():
            aims = teacher.objective.projector(torch.cat([view.cls for view in teacher.tokens]))
            everything = torch.ones(v * b, 1, dtype=torch.bool, device=aims.device)
            targets = sinkhorn(aims[:, None], everything, self.temperature).view(v, b, -1)
        rows = [
            cross_entropy(targets[t], logits[s], self.config.student_temperature)
            for t in range(v)
            for s in range(len(student))
            if s != t
        ]
        with full_precision():
            spread = [
                self.koleo(gather_padded(view.cls.float(), everything[:b, 0])[0]) for view in student[:v]
            ]
        return {
            "global": torch.stack(rows).mean(),
            "ibot": self.config.ibot_weight * self.masked_patches(student[:v], teacher),
            "koleo": self.config.koleo_weight * torch.stack(spread).sum(),
        }

    def masked_patches(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Tensor:
        """Distil the patch tokens that are masked for the student (iBOT); every masked view has equal weight.

        The scalar is the mean over a view's masked tokens, averaged over all views. A view without a mask
        adds 0.
        """
        masks = torch.cat([view.masked for view in student if view.masked is not None])
        shown = torch.cat([view.patches for view in student])
        # At least one row, so that every parameter has a gradient; its weight is 0 if it is not masked.
        chosen = masks.clone()
        chosen[0, 0] = True
        logits = self.patch_projector(shown[chosen])
        weights = masks / masks.sum(dim=1, keepdim=True).clamp(min=1)
        with torch.no_grad():
            aims = torch.cat([view.patches for view in teacher.tokens])[chosen]
            assert isinstance(teacher.objective, DINOv2)
            aims = teacher.objective.patch_projector(aims)
            targets = sinkhorn(aims[:, None], masks[chosen][:, None], self.temperature)[:, 0]
        losses = cross_entropy(targets, logits, self.config.student_temperature)
        rows = torch.zeros_like(weights).masked_scatter(chosen, losses) * weights
        return rows.sum(dim=1).mean()

    def region_targets(self, projected: Tensor, present: Tensor) -> Tensor:
        """Distribute the present rows of each region over the prototypes, by Sinkhorn."""
        return sinkhorn(projected.flatten(0, 1), present.flatten(0, 1), self.temperature).view_as(projected)
