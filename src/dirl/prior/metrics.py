"""What a run logs of its prior: absent regions, area of nuclei, nuclei in view, prior contrast."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dirl.prior.coverage import prior_contrast
from dirl.views.batch import ViewBatch
from dirl.views.geometry import view_mpp


@dataclass(frozen=True)
class PriorMetrics:
    """Measures the prior of a batch, at no extra cost: the loss has computed the coverage.

    Attributes
    ----------
    names
        The regions whose absence is logged one by one.
    nuclei
        The first `nuclei` regions are nuclei.
    has_area
        Whether coverage can be read as area.
    nucleus_um2
        Mean area of a nucleus in the store; None if it is not needed, or there are no nuclei.
    """

    names: tuple[str, ...]
    nuclei: int = 0
    has_area: bool = False
    nucleus_um2: float | None = None

    def __call__(
        self, views: ViewBatch, coverage: Tensor, present: Tensor, tile_mpp: float
    ) -> dict[str, Tensor]:
        """Measure the global views, given coverage ``(v, b, r, gh, gw)`` and the mask of present regions.

        The mask ``(v, b, r)`` has the regions that the loss finds in each view. ``prior/present`` is the
        share of pairs (view, region) in which the region is present. ``prior/absent/REGION`` is the share of
        views without this region, and ``prior/absent/nuclei`` that of views without any region of nuclei. If
        `has_area`, there are three more: ``prior/area`` is the mean coverage by nuclei. ``prior/contrast`` is
        the `prior_contrast` of that coverage. ``prior/nuclei_per_view`` is the area of nuclei in a view over
        the mean area of a nucleus in the store. A nucleus half in view counts half.
        """
        found = {"prior/present": present.float().mean()}
        absent = 1 - present.float().mean(dim=(0, 1))
        found |= {f"prior/absent/{name}": absent[i] for i, name in enumerate(self.names)}
        if self.nuclei:
            found["prior/absent/nuclei"] = 1 - present[..., : self.nuclei].any(dim=-1).float().mean()
        if self.has_area:
            share = coverage[:, :, : self.nuclei].sum(dim=2)
            found["prior/area"] = share.mean()
            found["prior/contrast"] = prior_contrast(share)
            if self.nucleus_um2 is not None:
                side_um = views.size_px * view_mpp(views.affines, tile_mpp)
                room = torch.from_numpy((side_um**2 / self.nucleus_um2).astype(np.float32)).to(share.device)
                found["prior/nuclei_per_view"] = (share.mean(dim=(-2, -1)) * room).mean()
        return found
