"""Common parts of the networks: batches of equal windows, threads for labels, and classes by vote."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Image, NucleiMask
from dirl.cells.segmenters.resample import to_mpp, to_shape
from dirl.core.errors import ConfigError
from dirl.core.parallel import available_cores

# Number of pixels in a batch, by device, unless the user states the number of windows.
BATCH_PX = {"cpu": 1_000_000, "cuda": 4_000_000}

Labels = NDArray[np.integer[Any]]
Types = NDArray[np.integer[Any]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Network:
    """A network with its weights, as `find_nuclei` runs it.

    Attributes
    ----------
    mpp
        µm/px at which it was trained.
    predict
        Computes the maps of windows of one size, uint8 of shape (b, h, w, 3). Called in the main thread.
    separate
        Computes the instance labels (h, w) of a window from its maps, and the type of each pixel (h, w) or
        None. Type 0 is background, k the k-th class. Called in threads, during the next batch.
    class_names
        Empty without classes.
    digest
        The segmenter's digest.
    batch_size
        Windows in a batch; None lets the device decide.
    device
        Type of the device of `predict`.
    """

    mpp: float
    predict: Callable[[NDArray[np.uint8]], Sequence[Any]]
    separate: Callable[[Any], tuple[Labels, Types | None]]
    class_names: tuple[str, ...]
    digest: str
    batch_size: int | None = None
    device: str = "cpu"


def find_nuclei(windows: Sequence[Image], *, network: Network, mpp: float) -> list[NucleiMask]:
    """Find the nuclei of windows; with `network` and `mpp` bound it is a `dirl.cells.base.Finder`.

    Each window is resampled to the network's mpp, and its labels back. Windows of the same size form batches.
    Nuclei are separated in threads meanwhile, one for each core, since NumPy, SciPy and OpenCV mostly release
    Python's lock.
    """
    resampled = [to_mpp(window, mpp, network.mpp) for window in windows]
    found: dict[int, Future[Any]] = {}
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            for batch in equal_batches(resampled, network.batch_size, network.device):
                maps = network.predict(np.stack([resampled[k] for k in batch]))
                for k, of_window in zip(batch, maps, strict=True):
                    found[k] = pool.submit(network.separate, of_window)
            return [
                _mask(found[k].result(), window.shape[:2], network, mpp) for k, window in enumerate(windows)
            ]
        finally:  # after an error or an interrupt, do not wait for the other windows
            pool.shutdown(wait=False, cancel_futures=True)


def equal_batches(windows: Sequence[Image], batch_size: int | None, device: str) -> Iterator[list[int]]:
    """Group windows of the same shape into batches, and yield the indices of each batch."""
    alike = defaultdict(list)
    for k, window in enumerate(windows):
        alike[window.shape[:2]].append(k)
    for (height, width), numbers in alike.items():
        size = batch_size or max(1, BATCH_PX.get(device, BATCH_PX["cuda"]) // (height * width))
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size]


def require(module: str, segmenter: str, how: str) -> None:
    """Raise a `ConfigError` if a package is not installed; `how` is the command to install it."""
    if find_spec(module) is None:
        raise ConfigError(f"needs the package {module}", where=f"segmenter {segmenter!r}", remedy=how)


def _mask(
    separated: tuple[Labels, Types | None], shape: tuple[int, int], network: Network, mpp: float
) -> NucleiMask:
    labels, types = separated
    fitted = to_shape(np.asarray(labels, np.int32), shape)
    # The network may skip numbers, and resampling may lose the smallest nuclei.
    nuclei = np.unique(fitted[fitted > 0])
    numbered = np.where(fitted > 0, np.searchsorted(nuclei, fitted) + 1, 0).astype(np.int32)
    classes = None
    if network.class_names and types is not None:
        classes = class_by_vote(labels, types, len(network.class_names))[nuclei - 1]
    return NucleiMask(numbered, classes, network.class_names, mpp, network.digest)


def class_by_vote(labels: Labels, types: Types, count: int) -> NDArray[np.uint8]:
    """Class of each nucleus, by a vote of its pixels, shape (largest label,); 0 if no pixel voted.

    The type of a pixel (h, w) is 0 for background, which does not vote, and k for class k - 1 of `count`.
    """
    inside = labels > 0
    ballots = labels[inside].astype(np.int64) * (count + 1) + types[inside]
    votes = np.bincount(ballots, minlength=(int(labels.max(initial=0)) + 1) * (count + 1))
    return np.asarray(votes.reshape(-1, count + 1)[1:, 1:].argmax(1).astype(np.uint8))


def check_mpp(segmenter: str, mpp: float) -> None:
    """Raise a `ConfigError` if a stated mpp is not a number of usual size."""
    if not isinstance(mpp, int | float) or not 0.05 <= mpp <= 4:
        where = f"segmenter {segmenter!r}"
        raise ConfigError(
            f"mpp={mpp} does not lie between 0.05 and 4 µm/px", where=where, remedy="such as mpp=0.25"
        )


def on_device(compute: Callable[[], Result]) -> Result:
    """Compute without gradients; raise a `ConfigError` if the memory of the device is too small."""
    import torch

    try:
        with torch.inference_mode():
            return compute()
    except torch.OutOfMemoryError as error:
        reason = "a batch of windows does not fit the device's memory"
        remedy = "use a smaller one, `dirl cells --batch N`, or `dirl cells --device cpu`"
        raise ConfigError(reason, where="batch size", remedy=remedy) from error
