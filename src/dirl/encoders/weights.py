"""Reading a file's weights by name, without running code from the file."""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dirl.core.boundary import HEAD_BYTES, check_substitute, parsing, refuse_special
from dirl.core.errors import EncoderError

FOREIGN = {
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"{": "a text file (JSON)",
    b"<?xml": "a text file (XML)",
}
DEEPEST = 16
PLAIN = (
    "if you trust the file, open it with torch.load(FILE, weights_only=False), and save model.state_dict(), "
    "or the dictionary without that object, with torch.save; or use safetensors"
)
REMEDY = "give a .safetensors file, or a torch checkpoint with only weights"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a file, by name, without running code from it.

    In nested dictionaries and lists, the keys come before the name, as in ``teacher.backbone.cls_token``. The
    errors recognise a Git-LFS pointer, an HTML page, and a pickle of other objects.
    """
    refuse_special(path, kind=EncoderError)
    if not path.is_file():
        reason = "a folder, not a file" if path.is_dir() else "no such file"
        raise EncoderError(reason, where=path, remedy="give a .safetensors or torch checkpoint")
    with parsing(path, remedy=REMEDY, kind=EncoderError, what="cannot be read as weights"):
        with path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
        if path.stat().st_size == 0:
            raise EncoderError("the file is empty", where=path, remedy="download it again")
        _refuse_foreign(head, path)
        named, zipped = path.suffix == ".safetensors", head.startswith(b"PK")
        safe = _is_safetensors(head, path) or (named and not zipped)
        held = load_file(path) if safe else _load_torch(path)
    found = dict(_tensors(held, "", 0))
    if not found:
        raise EncoderError("contains no weights", where=path, remedy=REMEDY)
    return found


def check_plain(state: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that are not plain numbers, such as quantised ones, whose scale is stored elsewhere."""
    for name, value in state.items():
        plain = value.layout == torch.strided and not (value.is_quantized or value.is_meta)
        if not plain or value.is_complex() or value.dtype.itemsize == 1:
            kind = "without data" if value.is_meta else f"of type {value.dtype}, {value.layout}"
            reason = f"has weights that are not plain floating-point numbers, first {name} ({kind})"
            raise EncoderError(reason, where=where, remedy="save them as float32, not quantised or sparse")


def check_finite(state: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that are not finite."""
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise EncoderError(
                f"has weights that are not finite, first {name}",
                where=where,
                remedy="its weights are damaged: use another copy, or an earlier checkpoint",
            )


def weights_digest(model: nn.Module) -> str:
    """Sixteen hex digits of the SHA-256 of a model's weights, by name and value."""
    total = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Whether a file starts like safetensors: with the length of a header, and the header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _refuse_foreign(head: bytes, path: Path) -> None:
    """Refuse a file of another format by its first bytes, and name the format."""
    check_substitute(head, path, kind=EncoderError)
    if _is_safetensors(head, path):  # the length may start like another format
        return
    kind = next((kind for start, kind in FOREIGN.items() if head.startswith(start)), None)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            kind = "a TorchScript archive"
        elif not any(name.endswith("data.pkl") for name in names):
            numpy = bool(names) and all(name.endswith(".npy") for name in names)
            kind = "a NumPy file" if numpy else "a zip archive that torch did not write"
    if kind is not None:
        raise EncoderError(f"{kind}, not weights of torch", where=path, remedy=REMEDY)


def _load_torch(path: Path) -> Any:
    try:
        # By its bytes: torch would read any file named .safetensors as safetensors.
        with path.open("rb") as handle:
            return torch.load(handle, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) ([\w.]+\.[\w.]+)", str(error))
        if named is None:  # torch's own message advises to read it without the check
            reason = "cannot be read as weights (not a torch checkpoint, or a damaged one)"
            raise EncoderError(reason, where=path, remedy=REMEDY) from error
        reason = f"contains an object of type {named[1]}, which is not read, since a pickle may run code"
        raise EncoderError(reason, where=path, remedy=PLAIN) from error


def _tensors(held: Any, name: str, depth: int) -> list[tuple[str, Tensor]]:
    if isinstance(held, Tensor):
        return [(name, held)]
    if isinstance(held, list | tuple):
        held = dict(enumerate(held))
    if not isinstance(held, Mapping) or depth > DEEPEST:
        return []
    ahead = f"{name}." if name else ""
    return [each for key, value in held.items() for each in _tensors(value, f"{ahead}{key}", depth + 1)]
