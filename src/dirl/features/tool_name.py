"""Names of encoders in the folders and attributes of other tools."""

import re
from collections.abc import Mapping
from pathlib import PurePath

from dirl.config import Pool


def tool_name(encoder: str, pool: Pool, published: Mapping[str, str]) -> str:
    """Name an encoder for a tool, which may only compute with features of encoders that it knows.

    Parameters
    ----------
    encoder
        The spec that the features were made with.
    pool
        How tokens became a feature. `published` names are of the model's own pooling.
    published
        The tool's names of encoders of `dirl encoders`. Others keep the last part of their spec.

    Returns
    -------
    str
        Letters, digits, ``.``, ``_`` and ``-`` only, as in ``uni_v1`` or ``vit_small_patch16_224-random``.
    """
    name, _, options = encoder.partition(",")
    asked = re.search(r"weights=([^,]+)", options)
    weights = PurePath(asked[1]).stem if asked else ""
    if pool == "model" and weights != "random" and name in published:
        return published[name]
    parts = [PurePath(name.rpartition(":")[2]).name, weights, "" if pool == "model" else pool]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(part for part in parts if part))
    return plain.strip("-.") or "encoder"
