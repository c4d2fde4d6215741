"""Weights of a segmentation network: a local file, or a file of its library on the hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.core.files import read_json
from dirl.core.hub import fetching


@dataclass(frozen=True)
class HubFile:
    """A file of weights on the Hugging Face hub, and the names of its classes."""

    repository: str
    file: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A file of weights, and the properties of its network.

    Attributes
    ----------
    classes
        Names of the classes of nuclei, without the background; empty if they are not stated.
    settings
        Arguments of the network that differ from the library's defaults.
    """

    path: Path
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the file and of the properties."""
        status = self.path.stat()
        content = _digest(self.path, status.st_size, status.st_mtime_ns)
        return digest({"weights": content, "classes": self.classes, "network": dict(self.settings)})


def find_weights(segmenter: str, weights: str | None, hub: Mapping[str, HubFile]) -> Weights:
    """Find the weights that a user names, and announce a download on standard error.

    They are a file, a name in `hub`, or None for its first name. A file ``FILE.json`` next to
    ``FILE.safetensors`` or ``FILE.pt`` may describe it. Its ``classes`` is a list of names without the
    background. Its ``network`` holds arguments of the network that are not the defaults.

    Raises
    ------
    ConfigError
        If the file or name does not exist, or the hub cannot be reached.
    """
    where = f"segmenter {segmenter!r}"
    path = Path(weights) if weights else None
    if path is not None and path.is_file():
        return _described(path)
    name = next(iter(hub), "") if weights is None else weights
    if name not in hub:
        names = f", or a name: {', '.join(hub)}" if hub else ""
        reason = "needs weights" if weights is None else f"no file of weights {weights}"
        raise ConfigError(reason, where=where, remedy=f"{segmenter},weights=FILE.safetensors{names}")
    return _fetched(segmenter, hub[name])


@lru_cache(maxsize=8)
def _fetched(segmenter: str, source: HubFile) -> Weights:
    from huggingface_hub import hf_hub_download

    where, instead = f"segmenter {segmenter!r}", f"{segmenter},weights=FILE"
    with fetching(segmenter, source.file, source.repository, instead, where=where, kind=ConfigError):
        return Weights(Path(hf_hub_download(source.repository, source.file)), source.classes)


def _described(path: Path) -> Weights:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Weights(path)
    try:
        description = read_json(beside)
    except ValueError:
        description = None
    if not _describes_weights(description):
        raise ConfigError(
            "does not describe weights",
            where=beside,
            remedy='write {"classes": [names without background], "network": {arguments}}, both optional',
        )
    return Weights(path, tuple(description.get("classes", ())), description.get("network", {}))


def _describes_weights(content: Any) -> bool:
    if not isinstance(content, dict) or not content.keys() <= {"classes", "network"}:
        return False
    classes = content.get("classes", [])
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return named and isinstance(content.get("network", {}), dict)


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    return digest(path)
