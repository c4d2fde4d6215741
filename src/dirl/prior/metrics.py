"""How good the prior of a batch is: nuclei in view, absent regions, how fine it is."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dirl.prior.coverage import prior_contrast
from dirl.prior.source import Prior
from dirl.views.batch import ViewBatch
from dirl.views.geometry import view_mpp

# The mean area of a nucleus is taken from so many slides: a cohort has hundreds of millions of nuclei.
SLIDES = 32


@dataclass(frozen=True)
class Known:
    """What is known of a prior before training.

    Attributes
    ----------
    names
        Its regions, whose absence is counted one by one; none where they are boxes or single nuclei.
    nuclei
        How many of the regions, from the first, are nuclei.
    is_area
        Whether coverage of these is the area of the nuclei: not of single nuclei, nor of an overlap.
    nucleus_um2
        Mean area of a nucleus in the store; None where it is not asked for, or there are no nuclei.
    """

    names: tuple[str, ...]
    nuclei: int = 0
    is_area: bool = False
    nucleus_um2: float | None = None


def know(prior: Prior) -> Known:
    """Gather what is known of a prior."""
    dense = prior.dense
    if prior.cells is None:
        return Known(())
    if prior.instances:
        return Known((), len(prior.names))
    if dense.control == "tissue-only":
        return Known(prior.names)
    nuclei = len(prior.names) - 1 if dense.regions == "classes" else 1
    if dense.match != "semantic":
        return Known(prior.names, nuclei)
    return Known(prior.names, nuclei, True, _nucleus_um2(prior))


def prior_metrics(known: Known, views: ViewBatch, present: Tensor, tile_mpp: float) -> dict[str, Tensor]:
    """Describe the prior of a batch, by what the loss has computed anyway.

    Parameters
    ----------
    known
        From `know`.
    views
        The global views, with coverage.
    present
        Bool ``(v, b, r)``, the regions that the loss finds in each view.
    tile_mpp
        µm/px of the tiles.

    Returns
    -------
    dict
        ``prior/absent/REGION``, share of views in which a region is absent; ``prior/absent/nuclei`` is of all
        nuclei, where they are several regions. Of the nuclei's coverage ``prior/area``, its mean;
        ``prior/contrast``, see `prior_contrast`; ``prior/nuclei_per_view``, the area that they cover in a
        view over the mean area of a nucleus in the store: a nucleus that is half in view counts half.
    """
    absent = 1 - present.float().mean(dim=(0, 1))
    found = {f"prior/absent/{name}": absent[i] for i, name in enumerate(known.names)}
    if known.nuclei:
        found["prior/absent/nuclei"] = 1 - present[..., : known.nuclei].any(dim=-1).float().mean()
    if known.is_area and views.coverage is not None:
        share = views.coverage[:, :, : known.nuclei].sum(dim=2)
        found["prior/area"] = share.mean()
        found["prior/contrast"] = prior_contrast(share)
        if known.nucleus_um2 is not None:
            side_um = views.images.shape[-1] * view_mpp(views.affines, tile_mpp)
            room = torch.from_numpy((side_um**2 / known.nucleus_um2).astype(np.float32)).to(share.device)
            found["prior/nuclei_per_view"] = (share.mean(dim=(-2, -1)) * room).mean()
    return found


def _nucleus_um2(prior: Prior) -> float | None:
    """Mean area of the nuclei of up to `SLIDES` slides, evenly spread over the store."""
    assert prior.cells is not None
    slides = list(prior.tiles.slides)
    chosen = np.unique(np.linspace(0, len(slides) - 1, min(SLIDES, len(slides))).astype(int))
    areas = np.concatenate(
        [prior.cells.nuclei(slides[i], ["area_um2"])["area_um2"].to_numpy() for i in chosen.tolist()]
    )
    mean = float(areas.mean()) if len(areas) else 0.0
    return mean if mean > 0 else None
