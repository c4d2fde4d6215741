"""Training of a slide model, and its predictions for slides."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dirl.config import MilConfig
from dirl.evaluate.mil.bags import Bags
from dirl.evaluate.mil.labels import SlideLabels
from dirl.evaluate.mil.models import MODELS
from dirl.evaluate.mil.slide_model import Pooled, SlideModel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Slides in a step. The partial likelihood compares those within one, so it needs more.
SLIDES, SLIDES_OF_COX = 8, 16
WEIGHT_DECAY = 1e-2


def cox_loss(risks: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Negative log partial likelihood, mean over the events, with Breslow's handling of equal times.

    ``-1/E Σ_{i: event} (r_i - log Σ_{j: t_j ≥ t_i} exp r_j)``, Cox 1972, for log risks (n,). An event (n,) is
    False if the time is that of the last follow-up. Where there is no event, the loss and its gradient are 0.
    """
    at_risk = times[None, :] >= times[:, None]
    totals = torch.where(at_risk, risks[None, :], -torch.inf).logsumexp(dim=1)
    return ((totals - risks) * events).sum() / events.sum().clamp(min=1)


@dataclass(frozen=True)
class Scaling:
    """Shift and scale that give each feature, over the tiles of some slides, mean 0 and deviation 1."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


@dataclass(frozen=True)
class Moments:
    """Sums over the tiles of each slide, from which the scaling of any of them follows.

    Counts are (s,), sums of features and of their squares (s, d).
    """

    counts: Floats
    sums: Floats
    squares: Floats

    def scaling(self, slides: Ints) -> Scaling:
        """Fit to these slides alone; a constant feature is only shifted."""
        count = self.counts[slides].sum()
        mean = self.sums[slides].sum(axis=0) / count
        variance = np.maximum(self.squares[slides].sum(axis=0) / count - mean**2, 0)
        # What is left of a constant by rounding is no deviation.
        constant = variance <= 1e-10 * np.maximum(mean**2, 1e-30)
        deviation = np.where(constant, 1, np.sqrt(variance))
        return Scaling(mean.astype(np.float32), deviation.astype(np.float32))


@dataclass(frozen=True)
class SlideTask:
    """Labelled slides and one set of their features: all that training needs, except which slides.

    Slides are numbered as in the labels. `features` is ``features``, or a baseline; `width` is theirs.
    """

    bags: Bags
    labels: SlideLabels
    features: str
    width: int
    moments: Moments
    device: torch.device

    @staticmethod
    def of(bags: Bags, labels: SlideLabels, features: str, device: torch.device) -> "SlideTask":
        """Read the features once for their moments."""
        counts, sums, squares = [], [], []
        for number in labels.bags.tolist():
            values = bags.values(number, features).astype(np.float64)
            counts.append(len(values))
            sums.append(values.sum(axis=0))
            squares.append((values**2).sum(axis=0))
        moments = Moments(np.array(counts, np.float64), np.stack(sums), np.stack(squares))
        return SlideTask(bags, labels, features, sums[0].size, moments, device)

    def tiles(self, slide: int, scaling: Scaling, chosen: Tensor | None = None) -> Tensor:
        """Scaled features of a slide's tiles, or of some of them."""
        values = torch.from_numpy(self.bags.values(int(self.labels.bags[slide]), self.features))
        values = values if chosen is None else values[chosen]
        scaled = (values - torch.from_numpy(scaling.mean)) / torch.from_numpy(scaling.deviation)
        return scaled.to(self.device)

    def loss(self, pooled: list[Pooled], slides: Ints, weights: Tensor) -> Tensor:
        """Mean loss over slides and streams, plus the models' auxiliary losses."""
        streams = torch.stack([one.streams for one in pooled])
        classes = torch.from_numpy(self.labels.classes[slides]).to(self.device)
        if self.labels.times is None:
            spread = classes[:, None].expand(-1, streams.shape[1])
            each = F.cross_entropy(streams.flatten(0, 1), spread.flatten(), reduction="none")
            loss = (each * weights[spread.flatten()]).mean()
        else:
            times = torch.from_numpy(self.labels.times[slides]).to(self.device)
            happened = classes == len(self.labels.names) - 1
            parts = [cox_loss(stream, times, happened) for stream in streams[..., 0].T]
            loss = torch.stack(parts).mean()
        return loss + torch.stack([one.auxiliary for one in pooled]).mean()

    def weights(self, slides: Ints) -> Tensor:
        """Weight of each class, so that all classes of these slides count the same."""
        counts = np.bincount(self.labels.classes[slides], minlength=len(self.labels.names))
        weights = len(slides) / np.maximum(counts, 1) / (counts > 0).sum()
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)


@dataclass(frozen=True)
class ScaledModel:
    """A slide model at one epoch of its training, with the scaling and the weights of its slides."""

    model: SlideModel
    scaling: Scaling
    weights: Tensor


def train_slides(
    task: SlideTask, name: str, slides: Ints, rate: float, config: MilConfig
) -> Iterator[ScaledModel]:
    """Train one of `MODELS` on some of the slides, and yield it after every epoch, without end.

    AdamW at a constant rate. All classes count the same, whatever their numbers of slides. Scaling and
    weights come from these slides alone. A step takes at most ``config.tiles`` of a slide, drawn anew each
    time. The seed is that of the weights, the order and the draws.
    """
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = MODELS[name](task.width, task.labels.outputs, config.width).to(task.device)
    trained = ScaledModel(model, task.moments.scaling(slides), task.weights(slides))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = -(-len(slides) // (SLIDES if task.labels.times is None else SLIDES_OF_COX))
    while True:
        order = torch.randperm(len(slides), generator=generator).numpy()
        for part in np.array_split(slides[order], steps):
            pooled = []
            for slide in part.tolist():
                chosen = _draw(int(task.moments.counts[slide]), config.tiles, generator)
                label = None if task.labels.times is not None else int(task.labels.classes[slide])
                pooled.append(model(task.tiles(slide, trained.scaling, chosen), label))
            optimiser.zero_grad()
            task.loss(pooled, part, trained.weights).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        yield trained


@torch.no_grad()
def predict_slides(task: SlideTask, trained: ScaledModel, slides: Ints) -> list[Pooled]:
    """Return a model's output for slides, on all of their tiles."""
    return [trained.model(task.tiles(slide, trained.scaling)) for slide in slides.tolist()]


def losses(task: SlideTask, training: Iterator[ScaledModel], slides: Ints, epochs: int) -> Floats:
    """Loss on slides that are not trained on, after each epoch."""
    found = [
        float(task.loss(predict_slides(task, trained, slides), slides, trained.weights))
        for trained in islice(training, epochs)
    ]
    return np.array(found)


def _draw(count: int, most: int, generator: torch.Generator) -> Tensor | None:
    """Which tiles to train on, in their order; None is all."""
    if count <= most:
        return None
    return torch.randperm(count, generator=generator)[:most].sort().values
