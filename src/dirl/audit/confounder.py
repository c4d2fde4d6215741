"""Test whether attention points at a mark that was planted in some tiles.

Half of the tiles, drawn at random, get a disc of pen ink. The classes are tiles with and without a disc. A
linear probe shows whether the embedding carries the mark. If it does, attention should show the mark, too.
The idea is Albuquerque et al.'s (2024); the mark, the probe and the three measures are of our own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from dirl.audit.findings import IntervalUnits
from dirl.audit.passes import TileMeasures
from dirl.audit.subjects import encoder_rows
from dirl.audit.summary import MarkAttention, MarkSummary, MarkTest
from dirl.audit.tiles import BATCH, AuditTiles
from dirl.core.errors import ConfigError
from dirl.core.intervals import Estimate, Units, choose_units, estimate, means, ratios
from dirl.core.randomness import permute, uniforms
from dirl.encoders import measures as m
from dirl.encoders.loading import LoadedEncoder, resize
from dirl.evaluate.common.scores import score_classes
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.probe.linear import linear_scores
from dirl.prior.coverage import coverage

Floats = NDArray[np.floating]

INK = (30, 120, 90)
"""Red, green and blue that a green pen lets through, of 255. H&E has no such colour."""
MARK_SHARE = 0.12
"""Diameter of the mark over the side of the tile."""
MARGIN = 0.15
"""Least distance of its centre from the border, over the side. Encoders may crop a tile to whole patches."""
FOLDS, FEWEST_TILES = 5, 20


@dataclass(frozen=True)
class Marks:
    """Which tiles are marked (t,), bool, and where: masks (t, h, w), uint8, are 1 on the mark.

    Tiles that are not marked have the place where it would be.
    """

    marked: NDArray[np.bool_]
    masks: Tensor

    def row(self, place: int) -> int:
        """Number of the tile at `place` among the marked ones."""
        return int(self.marked[:place].sum())

    def stamp(self, images: Tensor, places: NDArray[np.int64]) -> Tensor:
        """Ink the marked ones among images (b, 3, h, w), uint8, of the tiles at `places`."""
        inked = self.masks[places].bool() & torch.from_numpy(self.marked[places])[:, None, None]
        ink = torch.tensor(INK).view(1, 3, 1, 1)
        through = (images.int() * ink / 255).round().to(images.dtype)
        return torch.where(inked[:, None], through, images)


@dataclass(frozen=True)
class Marked:
    """Outcome of the test, and the marks that were planted.

    `shown` are marked tiles by (rule, place): those where the first encoder's attention, heads averaged,
    ranks the mark best, at the median and worst. `attention` is each encoder's attention of the last block on
    the marked tiles (t, a, gh, gw).
    """

    summary: MarkSummary
    marks: Marks
    shown: list[tuple[str, int]]
    attention: list[Tensor]


def plan_marks(count: int, side_px: int, seed: int) -> Marks:
    """Choose half of the tiles, and a place in each. Both depend only on the seed and the tile's number."""
    where = uniforms(seed, np.arange(count), 2) * (1 - 2 * MARGIN) + MARGIN
    y, x = np.indices((side_px, side_px)) + 0.5
    centres = where[:, :, None, None] * side_px
    inside = np.hypot(y - centres[:, 0], x - centres[:, 1]) <= MARK_SHARE * side_px / 2
    marked = permute(seed, np.arange(count), count) < count // 2
    return Marks(marked, torch.from_numpy(inside.astype(np.uint8)))


def check_enough(tiles: AuditTiles) -> None:
    """Check that there are enough tiles for the probe of the planted mark."""
    if len(tiles) < FEWEST_TILES:
        raise ConfigError(
            f"{len(tiles)} tiles are too few for a probe of the planted mark",
            where="confounder",
            remedy=f"give at least {FEWEST_TILES} tiles",
        )


def confounder(
    encoders: Sequence[LoadedEncoder],
    measured: Sequence[TileMeasures],
    tiles: AuditTiles,
    resamples: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Marked:
    """Test all encoders with the same marks, and word the outcome.

    For every encoder the probe's balanced accuracy is measured, and the attention of its last block, per head
    and with the heads averaged first. ``auroc`` says how attention ranks tokens on the mark above the others.
    ``pointing`` is the share of tiles whose most attended token touches the mark. ``enrichment`` of the mark
    is in log2; ``before`` is the same without the mark, and ``change`` the difference.

    `measured` is each encoder's pass over the tiles without marks, so that only marked tiles are run again.
    Intervals are over slides if the marked tiles come from at least five, else over tiles. `advance` is
    called with the number of marked tiles that were processed.
    """
    check_enough(tiles)
    marks = plan_marks(len(tiles), tiles.store.spec.size_px, seed)
    kept = np.flatnonzero(marks.marked)
    sources = None if tiles.sources is None else tiles.sources[kept]
    units = choose_units(sources, len(kept), resamples, seed)
    of_all = choose_units(tiles.sources if units.kind == "slides" else None, len(tiles), resamples, seed)
    tested = [
        _test(encoder, clean, tiles, marks, units, of_all, advance)
        for encoder, clean in zip(encoders, measured, strict=True)
    ]
    found = [one.numbers for one in tested]
    order = np.argsort(tested[0].auroc, kind="stable")
    places = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    summary = MarkSummary(
        tiles=len(tiles),
        marked=len(kept),
        ink=INK,
        diameter_um=MARK_SHARE * tiles.store.spec.size_px * tiles.store.spec.mpp,
        area=float(marks.masks.float().mean()),
        interval=IntervalUnits(over=units.kind, units=len(units)),
        encoders=found,
        statements=[statement(one) for one in found],
    )
    shown = [(rule, int(kept[place])) for rule, place in places.items()]
    return Marked(summary, marks, shown, [one.attention for one in tested])


def statement(found: MarkTest) -> str:
    """Word the outcome for one encoder."""
    name, probe, averaged = found.name, found.probe, found.joint
    seen = f"the probe tells marked tiles with a balanced accuracy of {probe.value:.2f}"
    if not (probe.low or 0) > 0.5:
        return (
            f"{name}: {seen}, which is chance: its embedding does not carry the mark, and nothing can be "
            "asked of its attention."
        )
    auroc, low, high = averaged.auroc.value, averaged.auroc.low or 0, averaged.auroc.high or 0
    pointed = f"attention ranks the mark's tokens above the others with an AUROC of {auroc:.2f}"
    if low > 0.5 and (averaged.change.low or 0) > 0:
        return f"{name}: {seen}, and {pointed}: its attention shows the mark."
    what = "turns away from" if high < 0.5 else "does not show"
    return (
        f"{name}: {seen}, yet {pointed}: its attention {what} the mark that its embedding carries. "
        "An attention map of this encoder is no evidence of what a classifier goes by."
    )


@dataclass(frozen=True)
class _Tested:
    """One encoder's test; the AUROC of its joint map (m,) and its attention (m, a, gh, gw) by marked tile."""

    numbers: MarkTest
    auroc: Floats
    attention: Tensor


def _test(
    encoder: LoadedEncoder,
    clean: TileMeasures,
    tiles: AuditTiles,
    marks: Marks,
    units: Units,
    of_all: Units,
    advance: Callable[[int], None],
) -> _Tested:
    """Test one encoder. `units` are those of the marked tiles, `of_all` those of all tiles."""
    assert clean.embeddings is not None, "an encoder has embeddings"
    embeddings, parts, attention = clean.embeddings.clone(), [], []
    kept = np.flatnonzero(marks.marked)
    for start in range(0, len(kept), BATCH):
        places = kept[start : start + BATCH]
        rows = encoder_rows(encoder, marks.stamp(tiles.read(tiles.indices[places]).images, places))
        assert rows.embeddings is not None, "an encoder has embeddings"
        embeddings[places] = rows.embeddings.cpu()
        attention.append(rows.patches[:, -1].cpu())
        parts.append(_pointing(encoder, attention[-1], clean.attention[places], marks.masks[places]))
        advance(len(places))
    numbers = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    test = MarkTest(
        name=encoder.name,
        probe=_probe(embeddings.numpy(), marks.marked, of_all),
        per_head=_summarise(numbers, slice(None, -1), units),
        joint=_summarise(numbers, slice(-1, None), units),
        auroc_of_heads=numbers["auroc"][:, :-1].mean(0).tolist(),
        pointing_by_chance=float(numbers["touched"].mean()),
    )
    return _Tested(test, numbers["auroc"][:, -1], torch.cat(attention))


def _pointing(encoder: LoadedEncoder, inked: Tensor, clean: Tensor, masks: Tensor) -> dict[str, Floats]:
    """Attention on the mark, and its rank, of each tile, head, and the heads' average (b, a + 1).

    `inked` and `clean` (b, a, gh, gw) are the attention with and without the mark.
    """
    covered = coverage(resize(encoder, masks), 1, encoder.patch_px)[:, 0].flatten(1).double().cpu()
    p, before = (_with_joint(one) for one in (inked, clean))
    most = covered.amax(1, keepdim=True)
    on, off = (covered >= most / 2).numpy(), (covered == 0).numpy()
    return {
        "on_mark": torch.einsum("ban,bn->ba", p, covered).numpy(),
        "on_mark_before": torch.einsum("ban,bn->ba", before, covered).numpy(),
        "area": covered.mean(1).numpy(),
        "auroc": np.stack([_auroc(*each) for each in zip(p.numpy(), on, off, strict=True)]),
        "pointing": np.take_along_axis(~off, p.argmax(-1).numpy(), axis=1).astype(float),
        "touched": (~off).mean(1),
    }


def _with_joint(attention: Tensor) -> Tensor:
    """Attention over the patch tokens (b, a + 1, n), the last the average of the heads."""
    rows = attention.flatten(2)
    return m.renormalise(torch.cat([rows, rows.mean(1, keepdim=True)], dim=1))[1].double()


def _auroc(p: Floats, on: NDArray[np.bool_], off: NDArray[np.bool_]) -> Floats:
    """Probability that a token on the mark draws more attention than one off it; p is (a, n)."""
    ranks = rankdata(p[:, on | off], axis=1)[:, on[on | off]]
    hits, misses = on.sum(), off.sum()
    area: Floats = (ranks.sum(1) - hits * (hits + 1) / 2) / (hits * misses)
    return area


def _summarise(rows: dict[str, Floats], heads: slice, units: Units) -> MarkAttention:
    """Means over tiles and over some of the heads."""

    def mean(name: str) -> Estimate:
        value, resampled = means(rows[name][:, heads].mean(1, keepdims=True), units)
        return estimate(value[0], resampled[:, 0])

    def log_ratio(name: str) -> tuple[float, Floats]:
        above = rows[name][:, heads].mean(1, keepdims=True)
        value, resampled = ratios(above, rows["area"][:, None], units)
        with np.errstate(divide="ignore"):
            return np.log2(value[0]), np.log2(resampled[:, 0])

    (after, afters), (before, befores) = log_ratio("on_mark"), log_ratio("on_mark_before")
    return MarkAttention(
        auroc=mean("auroc"),
        pointing=mean("pointing"),
        enrichment=estimate(after, afters),
        before=estimate(before, befores),
        change=estimate(after - before, afters - befores),
    )


def _probe(embeddings: Floats, marked: NDArray[np.bool_], units: Units) -> Estimate:
    """Balanced accuracy of the linear probe for the mark, cross-validated over tiles.

    Tiles of one slide may be in several folds: marks are drawn at random, so a slide tells nothing of them.
    """
    classes = marked.astype(np.int64)
    scores = np.zeros((len(classes), 2))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=units.seed)
    for train, test in folds.split(embeddings, classes):
        validation = validation_part(classes[train], train, units.seed)
        scores[test], _ = linear_scores(embeddings[train], classes[train], embeddings[test], validation, 2)
    return score_classes(classes, scores, units).record().balanced_accuracy
