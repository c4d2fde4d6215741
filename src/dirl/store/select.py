"""Fewer tiles that still show what a slide holds: some of each look, spread over the slide. Ours."""

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

from dirl.core.errors import ConfigError
from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.store.colour import colour_histogram
from dirl.store.dataset import TileStore

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]

LOOKS = 9


@dataclass(frozen=True)
class Selection:
    """Which tiles of a store are kept.

    Attributes
    ----------
    numbers : ndarray of shape (n,)
        Theirs in the store, ascending.
    slides
        How many of each slide are kept, and of how many.
    """

    numbers: Ints
    slides: Mapping[str, tuple[int, int]]

    def counts(self) -> dict[str, Any]:
        """For a card: tiles kept, of how many, their share, and tiles kept and their share of each slide."""
        of = sum(there for _, there in self.slides.values())
        slides = {slide: [kept, there] for slide, (kept, there) in self.slides.items()}
        return {"tiles": len(self.numbers), "of": of, "share": len(self.numbers) / of, "slides": slides}


def describe(counts: Mapping[str, Any]) -> str:
    """Say in one line what `Selection.counts` tells."""
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
    """Select a share of each slide's tiles: see `select`.

    What looks alike is told by colour histograms, for which every tile is read once.

    Parameters
    ----------
    store
        The store.
    share
        Of each slide's tiles, above 0, at most 1; at least one tile is kept.
    seed
        Of the clusters. The selection depends on it and on the tiles, not on their order or on `workers`.
    among
        Numbers of the tiles to select from; None is all.
    workers
        Processes, a slide each.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there is no such share.
    StoreError
        If a tile cannot be read.
    """
    check_share(share)
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
    """Return how many of a slide's tiles are kept."""
    return max(1, round(share * tiles))


def check_share(share: float) -> None:
    """Refuse what is no share of tiles.

    Raises
    ------
    ConfigError
        If it is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        remedy = "name one above 0, at most 1"
        raise ConfigError(f"cannot keep a share of {share:g}", where="select", remedy=remedy)


def select(looks: Floats, places: Floats | None, share: float, seed: int) -> Ints:
    """Select a share of one slide's tiles.

    The tiles are parted by k-means into at most nine looks. Each look is given tiles in proportion to its
    size, and at least one, so that what is rare is not lost; and its tiles are parted by k-means again into
    as many groups of neighbours, each of which is stood for by the tile nearest its centre. Where places are
    unknown, it is parted by looks again.

    Parameters
    ----------
    looks : ndarray of shape (t, k)
        What each tile looks like.
    places : ndarray of shape (t, 2), or None
        Where each tile lies.
    share
        Above 0, at most 1; ``round(share * t)`` tiles are kept, at least one.
    seed
        Of the clusters.

    Returns
    -------
    ndarray of shape (n,)
        Rows, ascending.
    """
    count = count_kept(len(looks), share)
    # One thread: sums in another order could end in other clusters, and so in other tiles.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tiles that are equal: fewer clusters
        means = KMeans(min(LOOKS, count), n_init=4, random_state=seed)
        look = np.unique(means.fit_predict(looks), return_inverse=True)[1]
        chosen = []
        for number, quota in enumerate(quotas(np.bincount(look), count).tolist()):
            members = np.flatnonzero(look == number)
            points = (looks if places is None else places)[members]
            chosen.append(members[_spread(points, quota, seed)])
    return np.sort(np.concatenate(chosen))


def quotas(sizes: Ints, count: int) -> Ints:
    """Share `count` out in proportion to sizes: at least one to each, and to none more than its size.

    Parameters
    ----------
    sizes : ndarray of shape (k,)
        All above 0.
    count
        From k to the sum of the sizes.
    """
    given, wanted = np.ones_like(sizes), count * sizes / sizes.sum()
    for _ in range(count - len(sizes)):
        given[np.argmax(np.where(given < sizes, wanted - given, -np.inf))] += 1
    return given


def _spread(points: Floats, count: int, seed: int) -> Ints:
    """Rows of so many points that stand for all: of each cluster, the one nearest its centre."""
    if count == len(points):
        return np.arange(count)
    means = KMeans(count, n_init=1, random_state=seed).fit(points.astype(np.float64))
    distance = np.linalg.norm(points - means.cluster_centers_[means.labels_], axis=1)
    order = np.lexsort((distance, means.labels_))
    nearest = order[np.unique(means.labels_[order], return_index=True)[1]]
    # Points that are equal make fewer clusters: the first of the others fill up.
    others = np.setdiff1d(np.arange(len(points)), nearest)
    return np.concatenate([nearest, others[: count - len(nearest)]])


def _of_slide(store: TileStore, share: float, seed: int, item: tuple[str, Ints]) -> Ints:
    slide, numbers = item
    looks = np.stack([colour_histogram(store.image(number)) for number in numbers.tolist()])
    places = None
    if store.slides[slide].kind != "tiles":  # ready-made tiles have no places
        places = np.stack([store.index[name].to_numpy()[numbers] for name in ("x", "y")], axis=1)
    return numbers[select(looks, places, share, seed)]
