"""One training step: views, tokens, terms, loss. Lightning does the rest."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from dirl.config import PretrainRecipe
from dirl.encoders.encoder import EncoderOutput
from dirl.encoders.vit import ViT
from dirl.objectives.objective import Teacher
from dirl.objectives.regions import RegionTokens, extract
from dirl.pretrain.data import Batch, CountedLoader
from dirl.views.batch import ViewBatch, make_views
from dirl.views.coverage import prior_contrast
from dirl.views.geometry import view_mpp

N_REGIONS = {"cells": 2}


class PretrainModule(pl.LightningModule):
    """Pretraining of one encoder, vanilla or with the dense term.

    Parameters
    ----------
    encoder
        The student.
    objective
        An `dirl.objectives.objective.Objective`.
    recipe
        The run's recipe.
    tile_mpp
        Resolution of the tiles, for the size of a token in µm.
    loader
        Makes the loader that begins at a step, for (start, rank, ranks).
    """

    def __init__(
        self,
        encoder: ViT,
        objective: Any,
        recipe: PretrainRecipe,
        tile_mpp: float,
        loader: Callable[[int, int, int], CountedLoader],
    ) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.recipe, self.tile_mpp, self.loader = recipe, tile_mpp, loader
        # Of the last step. Not Lightning's own logging: it writes after the checkpoint of the same step.
        self.metrics: dict[str, Any] = {}
        self.teacher: nn.ModuleDict | None = None
        if objective.momentum is not None:
            both = nn.ModuleDict({"encoder": encoder, "objective": objective})
            self.teacher = copy.deepcopy(both).requires_grad_(False)

    def train_dataloader(self) -> CountedLoader:
        """Begin where the restored step says."""
        return self.loader(self.global_step, self.global_rank, self.trainer.world_size)

    def on_fit_start(self) -> None:
        """Choose the faster of two equal attentions: on a CPU the backward of the fused one is slower."""
        self.encoder.use_fused_attention(self.device.type != "cpu")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and stochastic depth by (seed, step, rank): what is drawn here is not stored."""
        torch.manual_seed(hash((self.recipe.seed, self.global_step, self.global_rank)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of tiles, and keep its parts in `metrics`."""
        tiles, regions, positions = batch
        views = make_views(
            tiles,
            regions,
            positions.cpu().numpy(),
            self.recipe.views,
            seed=self.recipe.seed,
            patch_px=self.encoder.patch_px,
            n_regions=N_REGIONS[self.recipe.dense.regions],
        )
        coverage = self._coverage(views)
        rows = coverage if self._uses_rows else None
        student = encode_views(self.encoder, views.images, rows)
        teacher = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher = encode_views(self.teacher["encoder"], views.images, rows)
        terms = self.objective.global_terms(student, self._taught(teacher))
        loss = torch.stack(list(terms.values())).sum()
        logged: dict[str, Any] = {f"loss/{name}": term.detach() for name, term in terms.items()}
        if coverage is not None:
            found = [self._extract(o, c) for o, c in zip(student, coverage, strict=True)]
            taught = None
            if teacher is not None:
                taught = [self._extract(o, c) for o, c in zip(teacher, coverage, strict=True)]
            dense = self.objective.dense_terms(found, self._taught(taught))
            loss = loss + self.recipe.dense.weight * torch.stack(list(dense.values())).sum()
            logged |= {f"loss/{name}": term.detach() for name, term in dense.items()}
            if self.recipe.dense.control != "one":
                logged |= prior_metrics(coverage, found)
        token_um = view_mpp(views.affines, self.tile_mpp).mean() * self.encoder.patch_px
        self.metrics = {"loss": loss.detach(), **logged, "token_um": token_um}
        if (self.global_step + 1) % self.recipe.log_every_steps == 0:
            with torch.no_grad():
                self.metrics |= spread_metrics(torch.cat([output.cls for output in student]).float())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the teacher towards the student."""
        if self.teacher is not None:
            momentum = cosine_schedule(self.global_step, self.recipe.steps, self.objective.momentum, 1.0)
            update_momentum(self.encoder, self.teacher["encoder"], momentum)
            update_momentum(self.objective, self.teacher["objective"], momentum)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on norms and biases, warmed up linearly, decayed by a cosine."""
        config, recipe = self.recipe.optimiser, self.recipe
        trained = nn.ModuleDict({"encoder": self.encoder, "objective": self.objective})
        groups = param_groups_weight_decay(trained, config.weight_decay)
        lr = config.lr * recipe.batch / 256
        optimiser = torch.optim.AdamW(groups, lr=lr, betas=config.betas)
        warmup = round(config.warmup_share * recipe.steps)
        floor = min(config.min_lr / lr, 1.0)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            done = (step - warmup) / max(1, recipe.steps - warmup)
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def _uses_rows(self) -> bool:
        """The last block makes region rows: not for the control ``one``, which is the plain mean."""
        return self.recipe.dense.extract == "cls" and self.recipe.dense.control != "one"

    def _coverage(self, views: ViewBatch) -> Tensor | None:
        if not self.recipe.dense.weight:
            return None
        return views.valid[:, :, None] if self.recipe.dense.control == "one" else views.coverage

    def _extract(self, output: EncoderOutput, coverage: Tensor) -> RegionTokens:
        return extract(output, coverage, self.recipe.dense.min_area)

    def _taught(self, tokens: Sequence[Any] | None) -> Teacher[Any] | None:
        if tokens is None or self.teacher is None:
            return None
        return Teacher(tokens, self.teacher["objective"])


def encode_views(encoder: nn.Module, images: Tensor, coverage: Tensor | None) -> list[EncoderOutput]:
    """Encode all views ``(v, b, 3, h, w)`` in one pass and return one output per view."""
    v, b = images.shape[:2]
    output = encoder(images.flatten(0, 1), None if coverage is None else coverage.flatten(0, 1))
    return [
        EncoderOutput(
            cls=output.cls[i * b : (i + 1) * b],
            patches=output.patches[i * b : (i + 1) * b],
            registers=output.registers[i * b : (i + 1) * b],
            grid=output.grid,
            regions=None if output.regions is None else output.regions[i * b : (i + 1) * b],
        )
        for i in range(v)
    ]


def prior_metrics(coverage: Tensor, found: Sequence[RegionTokens]) -> dict[str, Tensor]:
    """Describe the prior of a batch: how fine it is, and how often a region is absent.

    Parameters
    ----------
    coverage
        ``(v, b, r, gh, gw)``.
    found
        Region tokens, one for each view.
    """
    present = torch.stack([regions.present for regions in found]).float()
    return {
        "prior/contrast": prior_contrast(coverage[:, :, 0]),
        "prior/area": coverage[:, :, 0].mean(),
        "prior/present": present.mean(),
    }


def spread_metrics(cls: Tensor) -> dict[str, Tensor]:
    """Describe how far embeddings are from having collapsed to a point or a line.

    Parameters
    ----------
    cls
        Class tokens ``(m, d)``.

    Returns
    -------
    dict
        ``embedding/std``: standard deviation of the unit vectors, times √d: 1 when isotropic, 0 for a
        point. ``embedding/rank``: exponential of the entropy of the covariance's spectrum.
    """
    unit = F.normalize(cls, dim=1)
    centred = unit - unit.mean(dim=0)
    std = centred.square().mean(dim=0).sqrt().mean() * math.sqrt(cls.shape[1])
    # The smaller of the two Gram matrices has the same non-zero spectrum.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    # A broken state is for the guard to report; the decomposition would fail on it first.
    spectrum = torch.linalg.eigvalsh(gram.nan_to_num()).clamp(min=0)
    share = spectrum / spectrum.sum().clamp(min=1e-12)
    rank = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    return {"embedding/std": std, "embedding/rank": rank}
