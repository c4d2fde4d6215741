"""Folds that keep tiles of one patient, slide or stain together."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold

from dirl.config import TaskConfig
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.core.progress import counted
from dirl.evaluate.common.records import Scheme, SourceKind

Ints = NDArray[np.int64]
Strings = NDArray[np.str_]
Item = Literal["tile", "slide"]

CLUSTERS = 10
TRAIN = "train"


@dataclass(frozen=True)
class Split:
    """Folds for cross-validation.

    Attributes
    ----------
    scheme
        What was kept together: ``folds`` and ``groups`` as given, ``patients``, ``slides``, or ``stain``:
        clusters of colour within each class.
    folds : ndarray of shape (t,)
        The fold in which a tile is held out, from 0; -1 if it is only trained on.
    groups : ndarray of shape (t,)
        What is kept together.
    digest
        Digest of the tiles' ids and folds, in any order.
    """

    scheme: Scheme
    folds: Ints
    groups: Ints
    digest: str

    def __len__(self) -> int:
        return int(self.folds.max()) + 1


@dataclass(frozen=True)
class Sources:
    """Where tiles come from; `ids` has one for each tile."""

    kind: SourceKind
    ids: Strings


def find_sources(
    groups: Strings | None, patients: Strings, slides: Strings, ready_made: NDArray[np.bool_]
) -> Sources | None:
    """Find what keeps tiles together: given groups, else patients, else slides.

    None if all tiles are ready-made and of unknown patients: their slides are unknown.

    Raises
    ------
    ConfigError
        If groups are given, but not for every tile, or if the sources of only some tiles are known.
    """
    if groups is not None:
        check_full(groups, "labelled tiles have no group")
        return Sources("groups", groups)
    unknown = ready_made & (patients == "")
    if unknown.all():
        return None
    if unknown.any():
        raise ConfigError(
            f"{unknown.sum()} of {len(unknown)} labelled tiles are ready-made and of unknown patients, the "
            "source of the others is known",
            where="labels",
            remedy="name the source of every tile in a CSV's column group, or leave the labels of some empty",
        )
    return patients_or_slides(patients, slides)


def patients_or_slides(patients: Strings, slides: Strings) -> Sources:
    """Keep patients together; a slide of an unknown patient counts as a patient."""
    known = patients != ""
    ids = np.where(known, np.char.add("patient ", patients), np.char.add("slide ", slides))
    return Sources("patients" if known.any() else "slides", ids)


def make_split(
    tile_ids: Strings,
    classes: Ints,
    names: tuple[str, ...],
    config: TaskConfig,
    *,
    sources: Sources | None,
    given: Strings | None,
    colours: NDArray[np.floating] | None,
    item: Item = "tile",
) -> Split:
    """Deal tiles, or slides, to folds.

    Parameters
    ----------
    tile_ids, classes : ndarray of shape (t,)
        Ids, and numbers of classes.
    names
        Names of the classes.
    config
        ``groups`` sets what is kept together: ``auto`` is what is given, else patients or slides, else stain.
    sources
        From `find_sources`.
    given : ndarray of shape (t,), or None
        Fold of each tile as the user gives it. If one is named ``train``, it is only trained on, and all
        others are one held-out fold.
    colours : ndarray of shape (t, k), or None
        Used to cluster stain.
    item
        What is dealt, for messages.

    Raises
    ------
    ConfigError
        If the groups are unknown, or one is in several of the given folds. If a class has too few groups or
        tiles for the folds.
    """
    wanted = config.groups
    if wanted == "given" and given is None and (sources is None or sources.kind != "groups"):
        raise ConfigError(
            "no folds or groups are given",
            where="groups given",
            remedy="give the CSV a column fold or group, or take the groups auto",
        )
    if wanted == "patient" and sources is None:
        raise ConfigError(
            "patients and slides are unknown",
            where="groups patient",
            remedy="name them in the CSV's column group and take the groups given, or take the groups stain",
        )
    scheme: Scheme
    used = given if wanted in ("auto", "given") else None
    if sources is None and colours is None and used is not None:
        # Only the folds of the tiles are known, and they need no more.
        groups = np.arange(len(classes))
    elif sources is None or wanted == "stain":
        if colours is None:
            raise ConfigError(
                "colours of the tiles are unknown",
                where="groups stain",
                remedy="name groups in the labels, or use features of `dirl embed` with baselines",
            )
        scheme, groups = "stain", stain_clusters(colours, classes, config.seed)
    else:
        scheme, groups = sources.kind, np.unique(sources.ids, return_inverse=True)[1].astype(np.int64)
    if used is not None:
        scheme, folds = "folds", _as_given(used)
        if sources is not None:
            check_whole(folds, sources)
    else:
        folds = deal(classes, groups, names, config.folds, config.seed, item)
    _check_training_parts(classes, folds, names, item)
    listed = sorted(zip(tile_ids.tolist(), folds.tolist(), strict=True))
    return Split(scheme, folds, groups, digest(listed))


def stain_clusters(colours: NDArray[np.floating], classes: Ints, seed: int) -> Ints:
    """Cluster the tiles of each class by colour into ten, by k-means. No two classes share a cluster (t,).

    Tiles of one slide are stained alike, so most of them are in one cluster of their class. Known slides are
    better; clusters are better than nothing.
    """
    groups = np.zeros(len(classes), np.int64)
    for c in np.unique(classes).tolist():
        members = np.flatnonzero(classes == c)
        means = KMeans(min(CLUSTERS, len(members)), n_init=4, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer colours than clusters
            groups[members] = c * CLUSTERS + means.fit(colours[members]).labels_
    return groups


def deal(
    classes: Ints, groups: Ints, names: tuple[str, ...], folds: int, seed: int, item: Item = "tile"
) -> Ints:
    """Deal groups to folds (t,) so that each fold has about the same share of every class.

    Raises
    ------
    ConfigError
        If a class has fewer groups than there are folds.
    """
    for c, name in enumerate(names):
        count = len(np.unique(groups[classes == c]))
        if count < folds:
            kinds = "patients, slides or clusters of stain" if item == "tile" else "patients or slides"
            raise ConfigError(
                f"the class {name} comes from {counted(count, 'group')} ({kinds}), too few for {folds} folds",
                where="folds",
                remedy="ask for fewer folds, label more, or leave the class out",
            )
    dealt = np.zeros(len(classes), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
        dealt[held_out] = fold
    return dealt


def validation_part(classes: Ints, groups: Ints, seed: int, share: float = 0.1) -> NDArray[np.bool_]:
    """Choose whole groups of a training part (n,), in random order, until they hold a share of each class.

    No class loses its last group. If every class has only one group, tiles are chosen instead.
    """
    kinds, of_class = np.unique(classes, return_inverse=True)
    names, of_group = np.unique(groups, return_inverse=True)
    table = np.zeros((len(names), len(kinds)))
    np.add.at(table, (of_group, of_class), 1)
    total, chosen = table.sum(axis=0), np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(names))
    for c in range(len(kinds)):
        for group in order[table[order, c] > 0].tolist():
            if table[chosen, c].sum() >= share * total[c]:
                break
            left = total - table[chosen].sum(axis=0) - table[group]
            chosen[group] |= bool((left > 0).all())
    if not chosen.any() and len(names) < len(classes):
        return validation_part(classes, np.arange(len(classes)), seed, share)
    mask: NDArray[np.bool_] = chosen[of_group]
    return mask


def _as_given(given: Strings) -> Ints:
    check_full(given, "labelled tiles have no fold")
    train = np.char.lower(given) == TRAIN
    if train.any() and not train.all():
        return np.where(train, -1, 0)
    names, folds = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise ConfigError(
            f"there is only one fold, {names[0]}", where="labels", remedy="name at least two folds"
        )
    return np.asarray(folds, np.int64)


def check_full(values: Strings, lack: str, where: object = "labels") -> None:
    """Refuse empty values; `lack` says in words of what and what they lack."""
    if missing := int((values == "").sum()):
        remedy = "name one for each, or leave their labels empty"
        raise ConfigError(f"{missing} {lack}", where=where, remedy=remedy)


def check_whole(
    folds: Ints,
    sources: Sources,
    where: str = "labels",
    remedy: str = "correct the folds: all tiles of one source belong in the same fold",
    dividing: str = "folds",
) -> None:
    """Refuse folds, or what else `dividing` names, that split a source."""
    names, groups = np.unique(sources.ids, return_inverse=True)
    pairs = np.unique(np.stack([groups, folds]), axis=1)
    parted = names[np.bincount(pairs[0]) > 1]
    if len(parted):
        raise ConfigError(
            f"the {dividing} split {len(parted)} of {len(names)} {sources.kind}, first {parted[0]}",
            where=where,
            remedy=remedy,
        )


def _check_training_parts(classes: Ints, folds: Ints, names: tuple[str, ...], item: Item) -> None:
    for fold in range(int(folds.max()) + 1):
        left = np.bincount(classes[folds != fold], minlength=len(names))
        if (left < 2).any():
            least = int(left.argmin())
            raise ConfigError(
                f"without fold {fold + 1}, the class {names[least]} is left with "
                f"{counted(int(left[least]), item)}",
                where="folds",
                remedy="spread the class over the folds, label more of it, or leave it out",
            )
