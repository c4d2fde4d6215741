"""Training of an encoder and a linear head on classes, and their predictions for tiles."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dirl.config import FinetuneConfig, OptimiserConfig, ViewsConfig
from dirl.core.errors import TrainingError
from dirl.core.randomness import uniforms
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.evaluate.common.records import Chosen
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.common.task import TileTask
from dirl.pretrain.data import Batch, CountedOrder, TileBatches, make_loader
from dirl.pretrain.optimiser import make_optimiser
from dirl.store.dataset import TileStore
from dirl.views import geometry, stain

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Whole tiles, since a crop may miss what the label says; turned, flipped and lightly stained otherwise.
VIEWS = ViewsConfig(crop_area=(1, 1), crop_aspect=(1, 1), rotation="quarter", stain_jitter=0.1)


@dataclass(frozen=True)
class Material:
    """All that training needs, except the tiles and the learning rate.

    Attributes
    ----------
    encoder
        The encoder before training; it is never changed.
    width
        Width of its embeddings.
    numbers : ndarray of shape (t,)
        Numbers of the task's tiles in the store, ascending.
    workers
        Processes that read tiles.
    """

    encoder: LoadedEncoder
    width: int
    store: TileStore
    numbers: Ints
    task: TileTask
    config: FinetuneConfig
    workers: int

    def targets(self, numbers: list[int]) -> Tensor:
        """Classes of tiles by their numbers in the store."""
        rows = np.searchsorted(self.numbers, numbers)
        return torch.from_numpy(self.task.classes[rows]).to(self.encoder.device)

    def read(self, rows: Ints) -> Iterable[Batch]:
        """Batches of the task's tiles in these rows."""
        return read_tiles(self.store, self.numbers[rows], self.config.batch, self.workers)


@dataclass(frozen=True)
class EncoderWithHead:
    """An encoder and its linear head at one epoch of their training."""

    encoder: LoadedEncoder
    head: nn.Linear

    def logits(self, images: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, 3, h, w), uint8 or float in 0..1."""
        logits: Tensor = self.head(self.encoder.embed(preprocess(self.encoder, images)))
        return logits


def turn_and_stain(images: Tensor, samples: Tensor, seed: int) -> Tensor:
    """Turn and flip tiles and vary their stain, as a function of (seed, sample) alone.

    Images are uint8 (b, 3, h, h), and become float in 0..1. Samples (b,) number the tiles in the order of
    training.
    """
    side = images.shape[-1]
    draws = uniforms(seed, samples.numpy(), geometry.DRAWS + stain.DRAWS)
    where = geometry.draw_affines(
        draws[:, : geometry.DRAWS], (side, side), VIEWS, crop_area=VIEWS.crop_area, size_px=side
    )
    turned = geometry.sample_images(images.float() / 255, where, side)
    return stain.restain(turned, draws[:, geometry.DRAWS :], VIEWS, None)


def train_on(material: Material, rows: Ints, rate: float) -> Iterator[EncoderWithHead]:
    """Train a copy of the encoder with a linear head on some of the tiles, and yield both after every epoch.

    AdamW. After a warm-up the rate follows half a cosine over all epochs. The head and the last block have
    the full rate; it is lower for each block further from the head. The head starts at zero. The model stays
    in evaluation mode, without dropout. Order and augmentation depend on the seed alone. An epoch leaves out
    the last, incomplete batch.
    """
    config, device = material.config, material.encoder.device
    encoder = replace(material.encoder, model=deepcopy(material.encoder.model).requires_grad_(True))
    head = nn.Linear(material.width, len(material.task.names)).to(device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    trained = EncoderWithHead(encoder, head)
    batch = min(config.batch, len(rows))
    per_epoch = len(rows) // batch
    # As given, whatever the batch: pretraining's rates are those at 256.
    settings = OptimiserConfig(
        lr=rate * 256 / batch, layer_decay=config.layer_decay, weight_decay=config.weight_decay
    )
    optimiser, schedule = make_optimiser(
        {"encoder": encoder.model, "head": head}, settings, batch, per_epoch * config.epochs
    )
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    order = CountedOrder(material.numbers[rows], batch, per_epoch * config.epochs, config.seed)
    loader = make_loader(
        TileBatches(material.store, None), order, material.workers, pin=device.type == "cuda"
    )
    for step, (keys, (images, _, samples)) in enumerate(zip(order, loader, strict=True), start=1):
        logits = trained.logits(turn_and_stain(images.to(device), samples, config.seed))
        loss = F.cross_entropy(logits, material.targets([number for _, number in keys]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, settings.clip_norm or float("inf"))
        optimiser.step()
        schedule.step()
        if step % per_epoch == 0:
            yield trained


def read_tiles(store: TileStore, numbers: Ints, batch: int, workers: int) -> Iterable[Batch]:
    """Return batches of tiles by their numbers in the store; they can be read repeatedly."""
    keys = [(0, number) for number in numbers.tolist()]
    batches = [keys[i : i + batch] for i in range(0, len(keys), batch)]
    return make_loader(TileBatches(store, None), batches, workers, pin=False)


@torch.no_grad()
def predict_tiles(trained: EncoderWithHead, tiles: Iterable[Batch]) -> Tensor:
    """Return logits of tiles (n, classes), in float64."""
    return torch.cat([trained.logits(images).double().cpu() for images, _, _ in tiles])


def _choose(material: Material, rows: Ints, advance: Callable[..., None]) -> Chosen:
    """Choose what has the lowest loss on a part of these rows, trained on the rest.

    Whole groups are kept for validation, as for the linear probe.

    Raises
    ------
    TrainingError
        If no rate gives a finite loss.
    """
    task, config = material.task, material.config
    mask = validation_part(task.classes[rows], task.split.groups[rows], config.seed, config.validation)
    validation, truth = material.read(rows[mask]), torch.from_numpy(task.classes[rows[mask]])
    found = np.full((len(config.learning_rates), config.epochs), np.inf)
    for i, rate in enumerate(config.learning_rates):
        for epoch, trained in enumerate(train_on(material, rows[~mask], rate)):
            loss = float(F.cross_entropy(predict_tiles(trained, validation), truth))
            found[i, epoch] = loss if np.isfinite(loss) else np.inf
            advance(note=f"rate {rate:g}: loss {loss:.3f}")
    if not np.isfinite(found).any():
        raise _not_finite(material, "the loss is not finite at any learning rate")
    return Chosen.lowest(found, config.learning_rates)


def score_fold(material: Material, fold: int, advance: Callable[..., None]) -> tuple[Floats, Chosen]:
    """Fine-tune without a fold, and return probabilities (n, classes) of its tiles and what was chosen.

    Rate and epochs are chosen within the training part. Then training starts anew from the encoder's own
    weights, on the whole training part.

    Raises
    ------
    TrainingError
        If it does not stay finite.
    """
    folds = material.task.split.folds
    train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    chosen = _choose(material, train, advance)
    training = train_on(material, train, chosen.learning_rate)
    for _ in range(chosen.epochs):
        trained = next(training)
        advance(note="the whole training part")
    advance(material.config.epochs - chosen.epochs)
    scores = predict_tiles(trained, material.read(test)).softmax(dim=1).numpy()
    if not np.isfinite(scores).all():
        raise _not_finite(
            material, f"trained without fold {fold + 1}, the encoder gives numbers that are not finite"
        )
    return scores, chosen


def _not_finite(material: Material, reason: str) -> TrainingError:
    remedy = "from Python, set lower `learning_rates` in `dirl.FinetuneConfig`"
    return TrainingError(reason, where=material.encoder.name, remedy=remedy)
