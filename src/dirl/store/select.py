"""Selecting a share of each slide's tiles that covers all colour clusters and the whole slide.

The method is dirl's own.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.store.colour import colour_histogram
from dirl.store.dataset import TileStore

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]

CLUSTERS = 9


@dataclass(frozen=True)
class Selection:
    """Selected tiles of a store: their numbers (n,), ascending, and the numbers of both by slide.

    `slides` holds the number of selected tiles and of all tiles.
    """

    numbers: Ints
    slides: Mapping[str, tuple[int, int]]

    @property
    def counts(self) -> dict[str, Any]:
        """Counts for a card: selected tiles, all tiles, their share, and both numbers of each slide."""
        of = sum(there for _, there in self.slides.values())
        slides = {slide: [kept, there] for slide, (kept, there) in self.slides.items()}
        return {"tiles": len(self.numbers), "of": of, "share": len(self.numbers) / of, "slides": slides}


def describe_selection(counts: Mapping[str, Any]) -> str:
    """Describe `Selection.counts` in one line."""
    shares = [kept / there for kept, there in counts["slides"].values()]
    each_ = f", of each {min(shares):.1%} to {max(shares):.1%}" if len(shares) > 1 else ""
    slides = f"{len(shares)} slide{'s' * (len(shares) > 1)}"
    return f"{counts['tiles']} of {counts['of']} tiles of {slides} selected ({counts['share']:.1%}){each_}"


def select_tiles(
    store: TileStore,
    share: float,
    seed: int,
    among: Ints | None = None,
    *,
    workers: int = 0,
    quiet: bool = False,
) -> Selection:
    """Select a share of each slide's tiles, above 0 and at most 1, and at least one tile: see `select`.

    Tiles are compared by colour histograms, so every tile is read once. They are selected from the numbers
    `among`; None is all. The selection depends on the seed and the tiles, not on their order or `workers`.
    Each worker selects from one slide at a time.
    """
    among = np.arange(len(store)) if among is None else among
    among = among[np.argsort(store.tile_ids[among], kind="stable")]
    slides = store.slide_ids[among]
    parts = {slide: among[slides == slide] for slide in np.unique(slides).tolist()}
    found: dict[str, Ints] = {}
    with bar("Selecting tiles", len(among), quiet=quiet) as advance:
        for (slide, part), kept in each(partial(_of_slide, store, share, seed), parts.items(), workers):
            if isinstance(kept, Exception):
                raise kept
            found[slide] = kept
            advance(len(part))
    numbers = np.sort(np.concatenate([found[slide] for slide in parts]))
    return Selection(numbers, {slide: (len(found[slide]), len(part)) for slide, part in parts.items()})


def count_kept(tiles: int, share: float) -> int:
    """Number of a slide's tiles that are kept."""
    return max(1, round(share * tiles))


def select(descriptors: Floats, places: Floats | None, share: float, seed: int) -> Ints:
    """Select ``round(share * t)`` of a slide's tiles, at least one, by k-means. Return rows (n,), ascending.

    k-means divides the tiles into at most nine clusters by appearance, `descriptors` (t, k). Each cluster
    gets a quota in proportion to its size, and at least one, so that rare tiles are kept. k-means then
    divides its tiles into as many groups by place (t, 2), or by appearance if places are None. The tile
    nearest to the centre of each group is kept.
    """
    count = count_kept(len(descriptors), share)
    # One thread: another order of sums could give other clusters, and so other tiles.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal tiles give fewer clusters
        means = KMeans(min(CLUSTERS, count), n_init=4, random_state=seed)
        cluster = np.unique(means.fit_predict(descriptors), return_inverse=True)[1]
        chosen = []
        for number, quota in enumerate(quotas(np.bincount(cluster), count).tolist()):
            members = np.flatnonzero(cluster == number)
            points = (descriptors if places is None else places)[members]
            chosen.append(members[_spread(points, quota, seed)])
    return np.sort(np.concatenate(chosen))


def quotas(sizes: Ints, count: int) -> Ints:
    """Divide `count` in proportion to sizes (k,). Each gets at least one, and at most its size.

    All sizes are above 0, and `count` lies between k and their sum.
    """
    given, wanted = np.ones_like(sizes), count * sizes / sizes.sum()
    for _ in range(count - len(sizes)):
        given[np.argmax(np.where(given < sizes, wanted - given, -np.inf))] += 1
    return given


def _spread(points: Floats, count: int, seed: int) -> Ints:
    """Rows of `count` points that represent all: for each cluster, the point nearest to its centre."""
    if count == len(points):
        return np.arange(count)
    means = KMeans(count, n_init=1, random_state=seed).fit(points.astype(np.float64))
    distance = np.linalg.norm(points - means.cluster_centers_[means.labels_], axis=1)
    order = np.lexsort((distance, means.labels_))
    nearest = order[np.unique(means.labels_[order], return_index=True)[1]]
    # Equal points give fewer clusters. The first of the other points fill the gap.
    others = np.setdiff1d(np.arange(len(points)), nearest)
    return np.concatenate([nearest, others[: count - len(nearest)]])


def _of_slide(store: TileStore, share: float, seed: int, item: tuple[str, Ints]) -> Ints:
    slide, numbers = item
    descriptors = np.stack([colour_histogram(store.image(number)) for number in numbers.tolist()])
    places = None
    if store.slides[slide].kind != "tiles":  # ready-made tiles have no places
        places = np.stack([store.index[name].to_numpy()[numbers] for name in ("x", "y")], axis=1)
    return numbers[select(descriptors, places, share, seed)]
