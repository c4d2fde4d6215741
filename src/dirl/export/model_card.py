"""The model card of an exported encoder: its ``README.md``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dirl.config import PretrainRecipe, make
from dirl.core.card import Card
from dirl.encoders.loading import LoadedEncoder
from dirl.export.formats import Format, tile_px, view_px

UNKNOWN = "unknown"


def describe_arm(recipe: PretrainRecipe) -> str:
    """Name the arm that a recipe trains: vanilla, dirl, a control, or noise; and its dense term."""
    dense, entropy = recipe.dense, recipe.entropy
    penalty = f"penalty {entropy.weight:g} on sparse attention of {entropy.of}" if entropy.weight else ""
    if not dense.weight:
        return f"control ({penalty}, no dense term)" if penalty else "vanilla (no dense term)"
    text = f"{recipe.role} (extract {dense.extract}, regions {dense.regions}, match {dense.match}"
    control = f", control {dense.control}" if dense.control else ""
    noise = dense.noise
    damage = f", prior damaged by {noise.kind} {noise.strength:g}" if noise else ""
    heads = ", rows of half of the heads" if dense.heads == "half" else ""
    return f"{text}, weight {dense.weight:g}{control}{damage}{heads}{f', {penalty}' if penalty else ''})"


def model_card(
    encoder: LoadedEncoder,
    run: Card,
    metrics: Mapping[str, float],
    form: Format,
    *,
    licence: str,
    differences: Mapping[str, float],
) -> str:
    """Write the model card in Markdown, with the hub's YAML front matter.

    Parameters
    ----------
    run, metrics
        The card of the run that trained the encoder, and its last value of each metric.
    licence
        Identifier as on the hub, or ``unknown``.
    differences
        Largest relative difference of its tokens from the run's, by program.
    """
    recipe: Mapping[str, Any] = run.config
    name = Path(encoder.spec).resolve().name
    front = {
        "license": licence if licence != UNKNOWN else "other",
        **({"license_name": UNKNOWN} if licence == UNKNOWN else {}),
        "library_name": form.library,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["dirl", "histopathology", "vision-transformer", "self-supervised-learning", form.library],
    }
    licence_text = (
        "The licence of these weights was not stated when they were exported. Ask their author before you "
        "use them; the licence of the training tiles may bind too."
        if licence == UNKNOWN
        else f"{licence}, as stated at the export. The licence of the training tiles may bind too."
    )
    view, tile = view_px(encoder), tile_px(encoder)
    table = "\n".join(f"| {key} | {value} |" for key, value in _facts(encoder, run).items())
    measures = "\n".join(f"| {key} | {value:.4g} |" for key, value in sorted(metrics.items()))
    checked = ", ".join(f"{value:.1e} by {key}" for key, value in differences.items())
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {name}

A vision transformer pretrained without labels on H&E tissue by dirl.

## Intended use

Research on histology images: features for probes, retrieval and multiple-instance learning, and studies of
attention. Not for diagnosis, nor for any other decision about a patient. What it does on tissue, stains,
scanners and resolutions other than those it was trained on has to be measured first.

## Licence

{licence_text}

## How to use it

```python
{form.use}
```

Features depend on the size of the image and on its resolution. The encoder was trained on views of {view} px,
crops of tiles of the resolution below. {form.prepares.format(tile=tile)}

## What it was made from

| | |
|---|---|
{table}

The data itself is not named here: the digest of the store tells whether two models saw the same tiles.

## Measures

Last values of the training log. They describe the training, not what the features are worth.

| measure | value |
|---|---|
{measures}

Largest difference of its tokens from those of the run, relative to the largest value: {checked}.

## Recipe

```yaml
{yaml.safe_dump(dict(recipe), sort_keys=False).strip()}
```
"""


def _facts(encoder: LoadedEncoder, run: Card) -> dict[str, object]:
    """What the encoder was made from, by the words of the card's table."""
    recipe, mpp = run.config, run.counts.get("mpp")
    return {
        "Architecture": f"{encoder.architecture}, patch {encoder.patch_px} px, views {view_px(encoder)} px",
        "Resolution of the tiles": UNKNOWN if mpp is None else f"{mpp:g} µm/px",
        "Normalisation": f"mean {list(encoder.mean)}, std {list(encoder.std)}, of RGB in 0..1",
        "Objective": recipe.get("objective", {}).get("name", UNKNOWN),
        "Arm": describe_arm(make(PretrainRecipe, recipe, where="the run's recipe")),
        "Steps × batch": f"{recipe.get('steps')} × {recipe.get('batch')}",
        "Seed": recipe.get("seed"),
        **{f"Digest of the {key}": f"`{value}`" for key, value in run.inputs.items()},
        "Digest of the run": f"`{run.digest}`",
        "Digest of the weights": f"`{encoder.digest}`",
        "dirl": f"{run.dirl_version}, commit {run.git_commit or UNKNOWN}",
        "Trained": run.finished or UNKNOWN,
    }
