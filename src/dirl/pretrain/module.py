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
from torch import Tensor, nn

from dirl.config import PretrainRecipe
from dirl.encoders.base import EncoderOutput
from dirl.encoders.vit import ViT
from dirl.objectives.base import Objective, Teacher
from dirl.objectives.distributed import full_precision
from dirl.pretrain.data import Batch, CountedLoader
from dirl.pretrain.optimiser import make_optimiser, set_weight_decay, weight_decay_at
from dirl.prior.metrics import Known, prior_metrics
from dirl.prior.tokens import Disentangle, RegionTokens, as_one_region, extract
from dirl.views.batch import ViewBatch, make_views
from dirl.views.geometry import view_mpp
from dirl.views.masking import block_masks


class PretrainModule(pl.LightningModule):
    """Pretraining of one encoder, vanilla or with the dense term.

    Parameters
    ----------
    encoder
        The student.
    objective
        What it is trained by.
    recipe
        The run's recipe.
    tile_mpp
        Resolution of the tiles, for the size of a token in µm.
    loader
        Makes the loader that begins at a step, for (start, rank, ranks).
    regions
        Regions that the ids of a batch tell apart; 0 where it brings none.
    disentangle
        Makes the region tokens of ``dense.extract: disentangle``.
    known
        What is known of the prior, where the run has one.
    """

    def __init__(
        self,
        encoder: ViT,
        objective: Objective,
        recipe: PretrainRecipe,
        tile_mpp: float,
        loader: Callable[[int, int, int], CountedLoader],
        regions: int = 0,
        disentangle: Disentangle | None = None,
        known: Known | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.objective, self.disentangle = encoder, objective, disentangle
        self.recipe, self.tile_mpp, self.loader, self.regions = recipe, tile_mpp, loader, regions
        self.known = known
        # Of the last step. Not Lightning's own logging: it writes after the checkpoint of the same step.
        self.metrics: dict[str, Any] = {}
        # Whether the batch at hand ended a step: with accumulation only the last of several does.
        self.stepped = False
        self.parts = 0
        self.teacher: nn.ModuleDict | None = None
        if objective.momentum is not None:
            self.teacher = copy.deepcopy(nn.ModuleDict(self._student())).requires_grad_(False)

    def train_dataloader(self) -> CountedLoader:
        """Begin where the restored step says."""
        return self.loader(self.global_step, self.global_rank, self.trainer.world_size)

    def on_fit_start(self) -> None:
        """Choose between two equal attentions, fused on a GPU; why not on a CPU: docs/decisions/0008."""
        encoders: list[Any] = [self.encoder] + ([] if self.teacher is None else [self.teacher["encoder"]])
        for encoder in encoders:
            encoder.use_fused_attention(self.device.type != "cpu")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and stochastic depth by (seed, first sample): what is drawn here is not stored."""
        torch.manual_seed(hash((self.recipe.seed, int(batch[2][0]))))
        if self.stepped:
            self.parts = 0
        self.stepped = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of tiles, and keep its parts in `metrics`."""
        tiles, ids, positions = batch
        recipe, dense = self.recipe, self.recipe.dense
        self.objective.begin_step(self._done)
        samples = positions.cpu().numpy()
        # In full precision whatever the run's: half would round colours by several grey levels.
        with torch.autocast(self.device.type, enabled=False):
            groups = make_views(
                tiles,
                ids,
                samples,
                recipe.views,
                seed=recipe.seed,
                patch_px=self.encoder.patch_px,
                n_regions=self.regions,
                overlap=dense.match == "overlap",
                instances=dense.instances if dense.match == "instance" else 0,
            )
        coverages = [self._coverage(views) for views in groups]
        student: list[EncoderOutput] = []
        for i, (views, coverage) in enumerate(zip(groups, coverages, strict=True)):
            masked = self._masks(views, samples) if self.objective.masked and i == 0 else None
            rows = coverage if self._uses_rows else None
            student += encode_views(self.encoder, views.images, rows, masked)
        taught = None
        if self.teacher is not None:
            # The student's dropout is no part of the teacher; batch norm is, and there is none in an encoder.
            self.teacher["encoder"].eval()
            with torch.no_grad():
                rows = coverages[0] if self._uses_rows else None
                taught = encode_views(self.teacher["encoder"], groups[0].images, rows)
        terms = self.objective.global_terms(student, self._teacher_of(taught))
        loss = torch.stack(list(terms.values())).sum()
        logged: dict[str, Any] = {f"loss/{name}": term.detach() for name, term in terms.items()}
        if dense.weight:
            shares = [share for group in coverages for share in (group if group is not None else [])]
            found = self._regions_of(student, shares, self.disentangle)
            aims = None
            if self.teacher is not None and taught is not None:
                with torch.no_grad():
                    own = self.teacher["disentangle"] if self.disentangle is not None else None
                    aims = self._regions_of(taught, shares[: len(taught)], own)
            matched = self.objective.dense_terms(
                [self._lined_up(regions) for regions in found],
                self._teacher_of(aims and [self._lined_up(regions) for regions in aims]),
            )
            loss = loss + dense.weight * torch.stack(list(matched.values())).sum()
            logged |= {f"loss/{name}": term.detach() for name, term in matched.items()}
            present = torch.stack([regions.present for regions in found[: len(groups[0].images)]])
            logged["prior/present"] = present.float().mean()
            if self.known is not None:
                logged |= prior_metrics(self.known, groups[0], present, self.tile_mpp)
        token_um = view_mpp(groups[0].affines, self.tile_mpp).mean() * self.encoder.patch_px
        metrics = {"loss": loss.detach(), **logged, "token_um": token_um}
        if (self.global_step + 1) % recipe.log_every_steps == 0:
            # Outside autocast: the spectrum needs, and a decomposition only knows, full precision.
            with torch.no_grad(), full_precision():
                seen = [output.cls for output in student[: recipe.views.count]]
                metrics |= spread_metrics(torch.cat(seen).float())
        self._take(metrics)
        return loss

    def _take(self, metrics: dict[str, Any]) -> None:
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
        set_weight_decay(
            optimizer, weight_decay_at(self.global_step, self.recipe.steps, self.recipe.optimiser)
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the teacher towards the student."""
        done = self.global_step
        super().optimizer_step(*args, **kwargs)
        self.stepped = True
        if self.teacher is not None:
            momentum = cosine_schedule(done, self.recipe.steps, self.objective.momentum, 1.0)
            for name, module in self._student().items():
                update_momentum(module, self.teacher[name], momentum)

    def configure_optimizers(self) -> Any:
        """AdamW, warmed up linearly, decayed by a cosine."""
        recipe = self.recipe
        optimiser, schedule = make_optimiser(self._student(), recipe.optimiser, recipe.batch, recipe.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _student(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"encoder": self.encoder, "objective": self.objective}
        return modules if self.disentangle is None else {**modules, "disentangle": self.disentangle}

    @property
    def _done(self) -> float:
        return self.global_step / self.recipe.steps

    @property
    def _uses_rows(self) -> bool:
        """The last block makes region rows: not for the controls without regions."""
        dense = self.recipe.dense
        return bool(dense.weight) and dense.extract == "cls" and dense.control not in ("one", "twice")

    def _masks(self, views: ViewBatch, samples: Any) -> Tensor:
        """Patch tokens to mask in each global view, bool ``(v, b, gh, gw)``."""
        config: Any = self.objective.config
        masks = [
            block_masks(
                self.recipe.seed,
                samples * len(views.images) + view,
                (views.valid.shape[-2], views.valid.shape[-1]),
                config.mask_share,
                config.p_mask,
            )
            for view in range(len(views.images))
        ]
        return torch.stack(masks).to(self.device)

    def _coverage(self, views: ViewBatch) -> Tensor | None:
        """Coverage of what the dense term matches, ``(v, b, r, gh, gw)``."""
        if not self.recipe.dense.weight:
            return None
        return views.valid[:, :, None] if views.coverage is None else views.coverage

    def _regions_of(
        self, outputs: Sequence[EncoderOutput], shares: Sequence[Tensor], disentangle: nn.Module | None
    ) -> list[RegionTokens]:
        dense = self.recipe.dense
        if dense.control == "twice":
            return [
                RegionTokens(
                    o.cls[:, None],
                    *(torch.ones_like(o.cls[:, :1], dtype=kind) for kind in (torch.bool, torch.float32)),
                )
                for o in outputs
            ]
        # Which nuclei are followed is decided by how much of each is seen, not by how large it is.
        least = 0.0 if dense.match == "instance" else dense.min_area
        return [extract(o, share, least, disentangle) for o, share in zip(outputs, shares, strict=True)]

    def _lined_up(self, regions: RegionTokens) -> RegionTokens:
        dense = self.recipe.dense
        return (
            as_one_region(regions) if dense.negatives == "regions" or dense.match == "instance" else regions
        )

    def _teacher_of(self, tokens: Sequence[Any] | None) -> Teacher[Any] | None:
        if tokens is None or self.teacher is None:
            return None
        return Teacher(tokens, self.teacher["objective"])


def encode_views(
    encoder: nn.Module, images: Tensor, coverage: Tensor | None, masked: Tensor | None = None
) -> list[EncoderOutput]:
    """Encode all views ``(v, b, 3, h, w)`` in one pass and return one output per view."""
    v, b = images.shape[:2]
    output = encoder(
        images.flatten(0, 1),
        None if coverage is None else coverage.flatten(0, 1),
        None if masked is None else masked.flatten(0, 1),
    )
    parts = [slice(i * b, (i + 1) * b) for i in range(v)]
    return [
        EncoderOutput(
            cls=output.cls[part],
            patches=output.patches[part],
            registers=output.registers[part],
            grid=output.grid,
            regions=None if output.regions is None else output.regions[part],
            masked=None if output.masked is None else output.masked[part],
            kept=None if output.kept is None else output.kept[part],
        )
        for part in parts
    ]


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
