"""Nested cross-validation: rate and epochs are chosen within the training part of each fold."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dirl.config import MilConfig, TaskConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.records import Chosen
from dirl.evaluate.common.splits import Sources, Split, check_whole, deal, make_split
from dirl.evaluate.mil.labels import SlideLabels
from dirl.evaluate.mil.train import SlideTask, losses, predict_slides, train_slides

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Folds:
    """The outer split, and a split of each outer fold's training part.

    Attributes
    ----------
    outer
        Of the labelled slides.
    inner : sequence of ndarray of shape (s,)
        For each outer fold, the inner fold of each slide; -1 where it is held out by the outer one.
    """

    outer: Split
    inner: tuple[Ints, ...]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether some outer fold holds a slide out, bool ``(s,)``."""
        return self.outer.folds >= 0


@dataclass(frozen=True)
class HeldOut:
    """Predictions of one kind of model for the slides, each by the model of the fold that holds it out.

    Attributes
    ----------
    scores : ndarray of shape (s, k)
        Probabilities of the classes, or a log risk; NaN for slides that no fold holds out.
    attention
        Shares of the tiles of each slide; None for such slides.
    chosen
        Learning rate and epochs of each fold.
    """

    scores: Floats
    attention: tuple[NDArray[np.float32] | None, ...]
    chosen: tuple[Chosen, ...]


def make_folds(labels: SlideLabels, slide_ids: NDArray[np.str_], config: MilConfig) -> Folds:
    """Deal slides to folds, grouped and stratified by class (of survival: by whether the event happened).

    Raises
    ------
    ConfigError
        If a class has too few groups, or a group or a patient is in two folds.
    """
    outer = make_split(
        slide_ids,
        labels.classes,
        labels.names,
        TaskConfig(folds=config.folds, seed=config.seed),
        sources=labels.sources,
        given=labels.folds,
        colours=None,
        item="slide",
    )
    known = labels.patients != ""
    check_whole(
        outer.folds[known],
        Sources("patients", labels.patients[known]),
        where="--labels",
        remedy="correct the folds or groups: all slides of one patient belong in the same fold",
    )
    inner = []
    for fold in range(len(outer)):
        train = np.flatnonzero(outer.folds != fold)
        groups = [
            np.unique(outer.groups[train][labels.classes[train] == c]) for c in range(len(labels.names))
        ]
        least = min(map(len, groups))
        if least < 2:
            name = labels.names[min(range(len(groups)), key=lambda c: len(groups[c]))]
            raise ConfigError(
                f"without fold {fold + 1}, the class {name} comes from one group, too few to choose on",
                where="--folds",
                remedy="label more patients of it, or leave it out",
            )
        dealt = np.full(len(slide_ids), -1)
        dealt[train] = deal(
            labels.classes[train],
            outer.groups[train],
            labels.names,
            min(config.inner_folds, least),
            config.seed,
            "slide",
        )
        inner.append(dealt)
    return Folds(outer, tuple(inner))


def cross_validate(
    task: SlideTask, name: str, folds: Folds, config: MilConfig, advance: Callable[..., None]
) -> HeldOut:
    """Train a slide model without each fold in turn, and predict that fold with it.

    The learning rate and the number of epochs are those with the lowest mean loss over the inner folds. Then
    the model is trained with them on the whole training part.
    """
    count = len(task.labels.classes)
    scores = np.full((count, task.labels.outputs), np.nan)
    attention: list[NDArray[np.float32] | None] = [None] * count
    chosen = []
    for fold in range(len(folds.outer)):
        test = np.flatnonzero(folds.outer.folds == fold)
        best = choose_inside(task, name, folds.inner[fold], config)
        train = np.flatnonzero(folds.outer.folds != fold)
        *_, trained = islice(train_slides(task, name, train, best.learning_rate, config), best.epochs)
        for slide, pooled in zip(test.tolist(), predict_slides(task, trained, test), strict=True):
            mean = pooled.streams.mean(dim=0)
            answer = mean.softmax(dim=0) if task.labels.times is None else mean
            scores[slide] = answer.double().cpu().numpy()
            attention[slide] = pooled.attention.cpu().numpy()
        chosen.append(best)
        advance()
    return HeldOut(scores, tuple(attention), tuple(chosen))


def choose_inside(task: SlideTask, name: str, inner: Ints, config: MilConfig) -> Chosen:
    """Choose what has the lowest loss on the inner folds (s,) of the slides; those of -1 are not used."""
    found = np.zeros((len(config.learning_rates), config.epochs))
    for part in range(int(inner.max()) + 1):
        train, validation = np.flatnonzero((inner >= 0) & (inner != part)), np.flatnonzero(inner == part)
        for i, rate in enumerate(config.learning_rates):
            training = train_slides(task, name, train, rate, config)
            found[i] += len(validation) * losses(task, training, validation, config.epochs)
    return Chosen.lowest(found, config.learning_rates)
