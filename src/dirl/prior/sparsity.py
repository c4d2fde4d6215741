"""A penalty on sparse attention: the control that spreads attention without regions."""

from typing import Literal

from torch import Tensor

from dirl.encoders.measures import normalised_entropy


def sparsity_penalty(attention: Tensor, of: Literal["heads", "joint"]) -> Tensor:
    """Return one minus the normalised entropy of attention ``(b, h, n)``, averaged over images: 0 if even.

    ``joint`` takes the entropy of the heads' mean, ``heads`` the mean of the heads' entropies. The second is
    the smaller: their difference is the divergence of the heads, over log n.
    """
    return 1 - normalised_entropy(attention.mean(dim=1) if of == "joint" else attention).mean()
