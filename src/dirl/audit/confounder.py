"""Honesty of attention: whether it points at a planted mark that gives a made-up class away.

Half of the tiles, drawn at random, get a disc of pen ink each; the class is whether a tile has one. A linear
probe shows whether the embedding carries the mark. If it does, whoever looks at the attention for what such
a probe may go by should find the mark there. After Albuquerque et al. 2024; the mark, the probe and the
three measures are ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from dirl.audit.tiles import AuditTiles
from dirl.core.errors import ConfigError
from dirl.core.intervals import Units, choose_units, interval, means, ratios
from dirl.core.randomness import permute, uniforms
from dirl.encoders import measures as m
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, embed, fit, preprocess
from dirl.evaluate.common.scores import score
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.probe.linear import linear_scores
from dirl.prior.coverage import coverage

Floats = NDArray[np.floating]

INK = (30, 120, 90)
"""What a green pen lets through, of 255: no colour of H&E."""
MARK_SHARE = 0.12
"""Diameter of the mark over the side of the tile."""
MARGIN = 0.15
"""Least distance of its centre from the border over the side: encoders may crop a tile to whole patches."""
FOLDS, FEWEST_TILES = 5, 20


@dataclass(frozen=True)
class Marks:
    """Which tiles are marked, and where.

    Attributes
    ----------
    marked : ndarray of shape (t,), bool
    masks : Tensor of shape (t, h, w), uint8
        1 on the mark, of the marked and, where it would be, of the others.
    """

    marked: NDArray[np.bool_]
    masks: Tensor

    def stamp(self, images: Tensor, places: NDArray[np.int64]) -> Tensor:
        """Ink the marked ones among images (b, 3, h, w), uint8, of the tiles at `places`."""
        inked = self.masks[places].bool() & torch.from_numpy(self.marked[places])[:, None, None]
        ink = torch.tensor(INK).view(1, 3, 1, 1)
        through = (images.int() * ink / 255).round().to(images.dtype)
        return torch.where(inked[:, None], through, images)


@dataclass(frozen=True)
class Confounded:
    """What came of the test.

    Attributes
    ----------
    summary
        What stands under ``confounder`` in `summary.json`.
    marks
        The marks that were planted.
    shown : list of (rule, place)
        Marked tiles to show, chosen by how the first encoder's attention, heads averaged, ranks the mark:
        the best, the median and the worst.
    """

    summary: dict[str, Any]
    marks: Marks
    shown: list[tuple[str, int]]


def plan_marks(count: int, side_px: int, seed: int) -> Marks:
    """Choose half of the tiles, and a place in each, as a function of (seed, place of the tile) alone."""
    where = uniforms(seed, np.arange(count), 2) * (1 - 2 * MARGIN) + MARGIN
    y, x = np.indices((side_px, side_px)) + 0.5
    centres = where[:, :, None, None] * side_px
    inside = np.hypot(y - centres[:, 0], x - centres[:, 1]) <= MARK_SHARE * side_px / 2
    marked = permute(seed, np.arange(count), count) < count // 2
    return Marks(marked, torch.from_numpy(inside.astype(np.uint8)))


def check_enough(tiles: AuditTiles) -> None:
    """Check that there are tiles enough for the probe of the planted mark.

    Raises
    ------
    ConfigError
        If not so.
    """
    if len(tiles) < FEWEST_TILES:
        raise ConfigError(
            f"{len(tiles)} tiles are too few for a probe of the planted mark",
            where="confounder",
            remedy=f"give at least {FEWEST_TILES} tiles",
        )


def confounder(
    subjects: Sequence[tuple[str, LoadedEncoder]],
    tiles: AuditTiles,
    resamples: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Confounded:
    """Put encoders to the test, all to the same marks, and word what came of it.

    Of every encoder are found the probe's balanced accuracy, and of its last block, per head and with the
    heads averaged first: ``auroc`` with which attention ranks tokens on the mark above the others,
    ``pointing``, the share of tiles whose most attended token touches the mark, ``enrichment`` of the mark in
    log2, ``before``, the same at the same place without the mark, and their ``change``.

    Parameters
    ----------
    subjects
        Encoders by name.
    tiles
        The audit's tiles.
    resamples
        Of the bootstrap over the marked tiles' slides, or tiles.
    seed
        Of the marks, folds and intervals.
    advance
        Called with the number of tiles that were looked at.

    Raises
    ------
    ConfigError
        If there are too few tiles.
    """
    check_enough(tiles)
    marks = plan_marks(len(tiles), tiles.store.spec.size_px, seed)
    kept = np.flatnonzero(marks.marked)
    sources = None if tiles.sources is None else tiles.sources[kept]
    units = choose_units(sources, len(kept), resamples, seed)
    found, ranked = [], []
    for name, encoder in subjects:
        numbers, auroc = _test(name, encoder, tiles, marks, units, seed, advance)
        found.append(numbers)
        ranked.append(auroc)
    order = np.argsort(ranked[0], kind="stable")
    places = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    summary = {
        "tiles": len(tiles),
        "marked": len(kept),
        "ink": list(INK),
        "diameter_um": MARK_SHARE * tiles.store.spec.size_px * tiles.store.spec.mpp,
        "area": float(marks.masks.float().mean()),
        "interval": {"over": units.kind, "units": len(units)},
        "encoders": found,
        "statements": [statement(one) for one in found],
    }
    return Confounded(summary, marks, [(rule, int(kept[place])) for rule, place in places.items()])


def statement(found: Mapping[str, Any]) -> str:
    """Say in a sentence what the test showed of one encoder."""
    name, probe, auroc = found["name"], found["probe"], found["heads_averaged"]["auroc"]
    change = found["heads_averaged"]["change"]
    seen = f"the probe tells marked tiles with a balanced accuracy of {probe['value']:.2f}"
    if not probe["low"] > 0.5:
        return (
            f"{name}: {seen}, which is chance: its embedding does not carry the mark, and nothing can be "
            "asked of its attention."
        )
    pointed = f"attention ranks the mark's tokens above the others with an AUROC of {auroc['value']:.2f}"
    if auroc["low"] > 0.5 and (change["low"] or 0) > 0:
        return f"{name}: {seen}, and {pointed}: its attention shows the mark."
    what = "turns away from" if auroc["high"] < 0.5 else "does not show"
    return (
        f"{name}: {seen}, yet {pointed}: its attention {what} the mark that its embedding carries. "
        "An attention map of this encoder is no evidence of what a classifier goes by."
    )


def _test(
    name: str,
    encoder: LoadedEncoder,
    tiles: AuditTiles,
    marks: Marks,
    units: Units,
    seed: int,
    advance: Callable[[int], None],
) -> tuple[dict[str, Any], Floats]:
    """Numbers of one encoder, and by marked tile the AUROC of its heads' average."""
    embeddings, parts = [], []
    done = 0
    for batch in tiles:
        places = np.arange(done, done + len(batch.indices))
        done += len(places)
        images = marks.stamp(batch.images, places)
        embeddings.append(embed(encoder, images).cpu().numpy())
        kept = torch.from_numpy(np.flatnonzero(marks.marked[places]))
        if len(kept):
            masks = marks.masks[places][kept]
            parts.append(_pointing(encoder, images[kept], batch.images[kept], masks))
        advance(len(places))
    rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    views = {"per_head": np.s_[:, :-1], "heads_averaged": np.s_[:, -1:]}
    numbers = {
        "name": name,
        "probe": _probe(np.concatenate(embeddings), marks.marked, units.resamples, seed),
        **{view: _summarise({k: v[part] if v.ndim > 1 else v for k, v in rows.items()}, units)
           for view, part in views.items()},
        "auroc_of_heads": rows["auroc"][:, :-1].mean(0).tolist(),
        "pointing_by_chance": float(rows["touched"].mean()),
    }  # fmt: skip
    return numbers, rows["auroc"][:, -1]


def _pointing(encoder: LoadedEncoder, inked: Tensor, clean: Tensor, masks: Tensor) -> dict[str, Floats]:
    """Of each tile, head, and the heads' average (b, a + 1): attention on the mark, and how it is ranked."""
    covered = coverage(fit(encoder, masks), 1, encoder.patch_px)[:, 0].flatten(1).double().cpu()
    p, before = (_last(encoder, images) for images in (inked, clean))
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


def _last(encoder: LoadedEncoder, images: Tensor) -> Tensor:
    """Attention of the last block over the patch tokens (b, a + 1, n), the last the average of the heads."""
    rows = attention_rows(encoder.model, preprocess(encoder, images)).patches[:, -1].flatten(2)
    return m.renormalise(torch.cat([rows, rows.mean(1, keepdim=True)], dim=1))[1].double().cpu()


def _auroc(p: Floats, on: NDArray[np.bool_], off: NDArray[np.bool_]) -> Floats:
    """Probability that a token on the mark draws more attention than one off it; p is (a, n)."""
    ranks = rankdata(p[:, on | off], axis=1)[:, on[on | off]]
    hits, misses = on.sum(), off.sum()
    area: Floats = (ranks.sum(1) - hits * (hits + 1) / 2) / (hits * misses)
    return area


def _summarise(rows: Mapping[str, Floats], units: Units) -> dict[str, Any]:
    """Means over tiles and over the heads given."""
    numbers = {}
    for name in ("auroc", "pointing"):
        value, resampled = means(rows[name].mean(1, keepdims=True), units)
        numbers[name] = interval(value[0], resampled[:, 0])
    area = rows["area"][:, None]
    logs = {}
    for name, key in (("enrichment", "on_mark"), ("before", "on_mark_before")):
        value, resampled = ratios(rows[key].mean(1, keepdims=True), area, units)
        with np.errstate(divide="ignore"):
            logs[name] = np.log2(value[0]), np.log2(resampled[:, 0])
        numbers[name] = interval(*logs[name])
    (after, afters), (before, befores) = logs["enrichment"], logs["before"]
    numbers["change"] = interval(after - before, afters - befores)
    return numbers


def _probe(embeddings: Floats, marked: NDArray[np.bool_], resamples: int, seed: int) -> dict[str, Any]:
    """Balanced accuracy of the linear probe for the mark, cross-validated over tiles."""
    classes = marked.astype(np.int64)
    scores = np.zeros((len(classes), 2))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(embeddings, classes):
        aside = validation_part(classes[train], train, seed)
        scores[test], _ = linear_scores(embeddings[train], classes[train], embeddings[test], aside, 2)
    units = Units("tiles", np.arange(len(classes)), resamples, seed)
    return asdict(score(classes, scores, units).record().balanced_accuracy)
