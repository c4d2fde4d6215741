"""One training step: views, tokens, terms, loss. Lightning does the rest."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from numpy.typing import NDArray
from torch import Tensor, nn

from dirl.config import EntropyConfig, OptimiserConfig, ViewsConfig
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import MaskedObjective, Teacher, TeacherObjective, Terms, Tokens
from dirl.objectives.distributed import full_precision
from dirl.pretrain.data import Batch, CountedLoader, Schedule
from dirl.pretrain.optimiser import make_optimiser, set_weight_decay, weight_decay_at
from dirl.pretrain.plan import Student
from dirl.prior.dense_term import DenseTerm
from dirl.prior.sparsity import sparsity_penalty
from dirl.prior.tokens import RegionTokens
from dirl.views.batch import ViewBatch, make_views
from dirl.views.geometry import view_mpp

Metrics = dict[str, Tensor | float]


class PretrainModule(pl.LightningModule):
    """Pretraining of one encoder, vanilla or with the dense term.

    `tile_mpp` is the resolution of the tiles, for the size of a token in µm. `loader` makes the loader that
    begins at a step, for (start, rank, ranks).
    """

    def __init__(
        self,
        student: Student,
        dense: DenseTerm | None,
        views: ViewsConfig,
        optimiser: OptimiserConfig,
        schedule: Schedule,
        tile_mpp: float,
        loader: Callable[[int, int, int], CountedLoader],
        entropy: EntropyConfig,
    ) -> None:
        super().__init__()
        self.student, self.dense, self.views, self.entropy = student, dense, views, entropy
        self.optimiser, self.schedule, self.tile_mpp, self.loader = optimiser, schedule, tile_mpp, loader
        self.encoder, self.objective = student.encoder, student.objective
        self.disentangle = student.disentangle
        self.measure_prior = dense.make_metrics() if dense else None
        # Of the last step. Not Lightning's own logging: it writes after the checkpoint of the same step.
        self.metrics: Metrics = {}
        # Whether the current batch ended a step: with accumulation only the last of several does.
        self.stepped = False
        self.parts = 0
        self.teacher: nn.ModuleDict | None = None
        if isinstance(self.objective, TeacherObjective):
            self.teacher = copy.deepcopy(nn.ModuleDict(student.modules())).requires_grad_(False)

    def train_dataloader(self) -> CountedLoader:
        """Begin at the restored step."""
        return self.loader(self.global_step, self.global_rank, self.trainer.world_size)

    def on_fit_start(self) -> None:
        """Use fused attention except on a CPU, see docs/decisions/0008; the results are equal."""
        encoders: list[Any] = [self.encoder] + ([] if self.teacher is None else [self.teacher["encoder"]])
        for encoder in encoders:
            encoder.use_fused_attention(self.device.type != "cpu")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and stochastic depth by (seed, first sample): their state is not stored."""
        torch.manual_seed(hash((self.schedule.seed, int(batch[2][0]))))
        if self.stepped:
            self.parts = 0
        self.stepped = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of tiles, and keep its parts in `metrics`."""
        tiles, ids, positions = batch
        samples = positions.cpu().numpy()
        self.objective.begin_step(self._done)
        coverage: list[Tensor] = []
        # In full precision at any precision of the run: half would round colours by several grey levels.
        with torch.autocast(self.device.type, enabled=False):
            groups = make_views(tiles, samples, self.views, seed=self.schedule.seed)
            if self.dense is not None and ids is not None:
                coverage = self.dense.coverage(ids, groups, samples, self.encoder.patch_px)
        rows = [self.dense.for_encoder(share) for share in coverage] if self.dense else [None] * len(groups)
        masks = [self._masks(groups[0], samples), *[None] * (len(groups) - 1)]
        student: list[EncoderOutput] = []
        for views, row, masked in zip(groups, rows, masks, strict=True):
            student += encode_views(self.encoder, views.images, row, masked, bool(self.entropy.weight))
        taught: list[EncoderOutput] = []
        if self.teacher is not None:
            # Evaluation mode: the teacher has no dropout. It changes nothing else in a ViT.
            self.teacher["encoder"].eval()
            with torch.no_grad():
                taught = encode_views(self.teacher["encoder"], groups[0].images, rows[0])
        terms = self._global_terms(student, taught)
        loss = torch.stack(list(terms.values())).sum()
        logged: Metrics = {f"loss/{name}": term.detach() for name, term in terms.items()}
        if self.dense is not None and self.measure_prior is not None:
            shares = [share for group in coverage for share in group]
            regions = self.dense.extract(student, shares, self.disentangle)
            terms = self._dense_terms(self.dense, regions, taught, shares)
            loss = loss + self.dense.weight * torch.stack(list(terms.values())).sum()
            logged |= {f"loss/{name}": term.detach() for name, term in terms.items()}
            present = torch.stack([view.present for view in regions[: self.views.count]])
            logged |= self.measure_prior(groups[0], coverage[0], present, self.tile_mpp)
        if self.entropy.weight:
            attended = [view.attention for view in student if view.attention is not None]
            sparsity = torch.stack([sparsity_penalty(row, self.entropy.of) for row in attended])
            loss = loss + self.entropy.weight * sparsity.mean()
            logged["loss/entropy"] = sparsity.mean().detach()
        token_um = view_mpp(groups[0].affines, self.tile_mpp).mean() * self.encoder.patch_px
        metrics: Metrics = {"loss": loss.detach(), **logged, "token_um": token_um}
        if (self.global_step + 1) % self.schedule.log_every == 0:
            # Outside autocast: the spectrum's decomposition exists in full precision only.
            with torch.no_grad(), full_precision():
                seen = [output.cls for output in student[: self.views.count]]
                metrics |= spread_metrics(torch.cat(seen).float())
        self._keep(metrics)
        return loss

    def _masks(self, views: ViewBatch, samples: NDArray[np.int64]) -> Tensor | None:
        """Patch tokens to mask in each global view, bool ``(v, b, gh, gw)``; None if nothing is masked."""
        if not isinstance(self.objective, MaskedObjective):
            return None
        side = views.size_px // self.encoder.patch_px
        masks = self.objective.masking.draw(self.schedule.seed, samples, len(views.images), (side, side))
        return masks.to(self.device)

    def _global_terms(self, student: list[EncoderOutput], taught: list[EncoderOutput]) -> Terms:
        """Match whole views with each other, or with the teacher's."""
        if isinstance(self.objective, TeacherObjective):
            return self.objective.global_terms(student, self._teacher(taught))
        return self.objective.global_terms(student)

    def _dense_terms(
        self,
        dense: DenseTerm,
        regions: list[RegionTokens],
        taught: list[EncoderOutput],
        shares: list[Tensor],
    ) -> Terms:
        """Match the regions of views with each other, or with the teacher's."""
        rows = dense.rows(regions)
        if not isinstance(self.objective, TeacherObjective):
            return self.objective.dense_terms(rows)
        assert self.teacher is not None
        with torch.no_grad():
            block = None if self.disentangle is None else self.teacher["disentangle"]
            aims = dense.rows(dense.extract(taught, shares[: len(taught)], block))
        return self.objective.dense_terms(rows, self._teacher(aims))

    def _teacher(self, tokens: Sequence[Tokens]) -> Teacher[Tokens]:
        assert self.teacher is not None
        averaged = self.teacher["objective"]
        assert isinstance(averaged, TeacherObjective)
        return Teacher(tokens, averaged)

    def _keep(self, metrics: Metrics) -> None:
        """Keep the metrics of a step, averaged over its accumulated parts."""
        self.parts += 1
        if self.parts == 1:
            self.metrics = metrics
        else:
            share = 1 / self.parts
            self.metrics = {k: self.metrics[k] * (1 - share) + metrics[k] * share for k in metrics}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Let the objective change gradients, and set the weight decay of this step."""
        self.objective.before_update(self._done)
        set_weight_decay(optimizer, weight_decay_at(self.global_step, self.schedule.steps, self.optimiser))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the teacher towards the student."""
        done = self.global_step
        super().optimizer_step(*args, **kwargs)
        self.stepped = True
        if self.teacher is not None and isinstance(self.objective, TeacherObjective):
            momentum = cosine_schedule(done, self.schedule.steps, self.objective.momentum, 1.0)
            for name, module in self.student.modules().items():
                update_momentum(module, self.teacher[name], momentum)

    def configure_optimizers(self) -> Any:
        """AdamW, warmed up linearly, decayed by a cosine."""
        optimiser, schedule = make_optimiser(
            self.student.modules(), self.optimiser, self.schedule.batch, self.schedule.steps
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def _done(self) -> float:
        return self.global_step / self.schedule.steps


def encode_views(
    encoder: nn.Module,
    images: Tensor,
    coverage: Tensor | None,
    masked: Tensor | None = None,
    attention: bool = False,
) -> list[EncoderOutput]:
    """Encode all views ``(v, b, 3, h, w)`` in one pass and return one output per view."""
    joined = (None if given is None else given.flatten(0, 1) for given in (images, coverage, masked))
    output: EncoderOutput = encoder(*joined, attention=attention)
    return output.chunk(len(images))


def spread_metrics(cls: Tensor) -> dict[str, Tensor]:
    """Measure how far class tokens ``(m, d)`` are from collapse to a point or a line.

    ``embedding/std`` is the standard deviation of the unit vectors, times √d: 1 when isotropic, 0 for a
    point. ``embedding/rank`` is the exponential of the entropy of the covariance's spectrum.
    """
    unit = F.normalize(cls, dim=1)
    centred = unit - unit.mean(dim=0)
    std = centred.square().mean(dim=0).sqrt().mean() * math.sqrt(cls.shape[1])
    # The smaller of the two Gram matrices has the same non-zero spectrum.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    # The decomposition fails on values that are not finite; the guard reports those.
    spectrum = torch.linalg.eigvalsh(gram.nan_to_num()).clamp(min=0)
    share = spectrum / spectrum.sum().clamp(min=1e-12)
    rank = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    return {"embedding/std": std, "embedding/rank": rank}
