"""Measures of attention maps: their spread, their regions, and the diversity of heads.

In all functions `p` has shape (..., n) and sums to 1 over its n ≥ 2 patch tokens: one softmax row,
renormalised over the patches. Uniform attention has the highest spread by every measure. So compare the
spread with the controls and with the enrichment of regions.
"""

import math

import numpy as np
import torch
from torch import Tensor

# For rounding of float32 sums: a uniform map reaches 0.6 at 60 % of the tokens, not one token later.
TOLERANCE = 1e-6
OUTLIER = 4.0


def renormalise(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Split patch attention into its mass and its distribution.

    Parameters
    ----------
    patches : Tensor of shape (..., n)
        Attention on the patch tokens. The rest to 1 is on [CLS] and the registers.

    Returns
    -------
    mass : Tensor of shape (...)
        The patch mass, 0 to 1.
    p : Tensor of shape (..., n)
        ``patches / mass``; NaN if the mass is 0.
    """
    mass = patches.sum(-1)
    return mass, patches / mass[..., None]


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats: 0 for one token, log n for uniform."""
    # 0 · log 0 is 0. `torch.special.entr` gives the same, but takes five times as long.
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(-1)


def normalised_entropy(p: Tensor) -> Tensor:
    """Entropy over log n: 0 for one token, 1 for uniform."""
    return entropy(p) / math.log(p.shape[-1])


def entropy_within(p: Tensor, chosen: Tensor) -> Tensor:
    """Normalised entropy of attention ``(b, ..., n)`` within the chosen tokens, bool ``(b, n)``.

    The attention on these tokens is renormalised. The result ``(b, ...)`` is NaN for fewer than two tokens.
    """
    chosen = chosen.view(len(chosen), *[1] * (p.ndim - 2), -1)
    within = p * chosen
    count = chosen.sum(-1).float()
    _, within = renormalise(within)
    return torch.where(count > 1, entropy(within) / count.clamp(min=2).log(), torch.nan)


def effective_rank(embeddings: Tensor) -> float:
    """Exponential of the entropy of the spectrum of embeddings ``(t, d)``, centred and of unit length.

    At most t - 1 and d. Roy and Vetterli, *The effective rank*, EUSIPCO 2007, equation 3 with eigenvalues of
    the covariance in place of singular values.
    """
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    centred = unit - unit.mean(dim=0)
    spectrum = torch.linalg.svdvals(centred).square()
    return float(entropy(spectrum / spectrum.sum().clamp(min=1e-12)).exp())


def participation(p: Tensor) -> Tensor:
    """Inverse of the sum of squares: 1 for one token, n for uniform."""
    return 1 / p.square().sum(-1)


def hoyer(p: Tensor) -> Tensor:
    """Hoyer's sparseness of ‖p‖₁ = 1, ``(√n - 1/‖p‖₂) / (√n - 1)``: 0 for uniform, 1 for one token."""
    root = math.sqrt(p.shape[-1])
    length = p.square().sum(-1).sqrt()
    # Rounding gives values slightly below 0 for uniform attention.
    return ((root - 1 / length) / (root - 1)).clamp(min=0)


def spread_measures(p: Tensor) -> dict[str, Tensor]:
    """All measures of the spread of a map, by name. The map is sorted once, and its logarithm taken once.

    Beside the measures above these are:

    - ``effective_tokens``: exponential of the entropy, 1 for one token and n for uniform attention.
      ``effective_share`` is its share of n.
    - ``gini``: mean absolute difference of all n² pairs over twice the mean, 0 for uniform and 1 - 1/n for
      one token.
    - ``topX_mass``: mass of the largest X % of the tokens, rounded up to a whole token.
    - ``tokensX``: fewest tokens with X % of the mass, as a share of n.
    """
    bits, rising, n = entropy(p), _ascending(p), p.shape[-1]
    return {
        "entropy": bits / math.log(n),
        "effective_share": bits.exp() / n,
        "effective_tokens": bits.exp(),
        "participation": participation(p),
        "gini": _gini(rising),
        "hoyer": hoyer(p),
        "top1_mass": _top_mass(rising, 0.01),
        "top5_mass": _top_mass(rising, 0.05),
        "top10_mass": _top_mass(rising, 0.1),
        "tokens60": _tokens_for_mass(rising, 0.6),
        "tokens90": _tokens_for_mass(rising, 0.9),
    }


def _ascending(p: Tensor) -> Tensor:
    # On a CPU numpy sorts the rows ten times as fast as torch.
    return torch.from_numpy(np.sort(p.numpy(), -1)) if p.device.type == "cpu" else p.sort(-1).values


def _gini(rising: Tensor) -> Tensor:
    n = rising.shape[-1]
    # In sorted order the sum over pairs is a sum weighted by rank.
    rank = torch.arange(1, n + 1, device=rising.device, dtype=rising.dtype)
    weighted = rising @ (2 * rank - n - 1)
    # Rounding can give values slightly below 0 for uniform attention.
    return (weighted / (n * rising.sum(-1))).clamp(min=0)


def _top_mass(rising: Tensor, share: float) -> Tensor:
    return rising[..., -math.ceil(share * rising.shape[-1] - TOLERANCE) :].sum(-1)


def _tokens_for_mass(rising: Tensor, mass: float) -> Tensor:
    n = rising.shape[-1]
    held = rising.flip(-1).cumsum(-1)
    share = ((held < mass - TOLERANCE).sum(-1) + 1).clamp(max=n) / n
    return share.where(~rising[..., -1].isnan(), torch.nan)


def outliers(norms: Tensor) -> Tensor:
    """Share of the patch tokens that are longer than four times the median.

    Darcet et al. (arXiv 2309.16588) found that such tokens exist. The threshold is dirl's own.

    Parameters
    ----------
    norms : Tensor of shape (..., n)
        Lengths of the patch tokens, before the final norm.

    Returns
    -------
    Tensor of shape (...)
    """
    return (norms > OUTLIER * norms.median(-1, keepdim=True).values).to(norms.dtype).mean(-1)


def region_attention(p: Tensor, coverage: Tensor) -> Tensor:
    """Attention on each region. A token counts by the share of it that the region covers.

    Parameters
    ----------
    p : Tensor of shape (t, ..., n)
        Maps of each tile.
    coverage : Tensor of shape (t, r, n)
        Share of each token's pixels that region r covers.

    Returns
    -------
    Tensor of shape (t, ..., r)
    """
    return torch.einsum("t...n,trn->t...r", p, coverage)


def relative_attention(p: Tensor, weights: Tensor) -> Tensor:
    """Attention on each nucleus relative to uniform, ``a_i = n · Σ_j w_ij p_j``.

    Parameters
    ----------
    p : Tensor of shape (..., n)
        Maps of one tile.
    weights : Tensor of shape (m, n)
        Distribution of each nucleus over the tokens; every row sums to 1.

    Returns
    -------
    Tensor of shape (..., m)
    """
    return p.shape[-1] * (p @ weights.T)


def component_coverage(relative: Tensor, threshold: float) -> Tensor:
    """Share of the nuclei whose attention relative to uniform is at least `threshold`; NaN without nuclei.

    Threshold 1 is unstable: little noise on uniform attention halves the share.

    Parameters
    ----------
    relative : Tensor of shape (..., m)
        From `relative_attention`.

    Returns
    -------
    Tensor of shape (...)
    """
    reached = (relative >= threshold - TOLERANCE).to(relative.dtype).mean(-1)
    return reached.where(~relative.isnan().any(-1), torch.nan)


def head_diversity(p: Tensor) -> Tensor:
    """Jensen–Shannon divergence of all heads, in nats: 0 identical, at most log a; NaN for one head.

    It is the entropy of the heads' mean, minus the mean of the heads' entropies.
    Source: J. Lin, *Divergence measures based on the Shannon entropy*, 1991, equation 5.1 with equal weights.

    Parameters
    ----------
    p : Tensor of shape (..., a, n)

    Returns
    -------
    Tensor of shape (...)
    """
    divergence = (entropy(p.mean(-2)) - entropy(p).mean(-1)).clamp(min=0)
    return divergence if p.shape[-2] > 1 else torch.full_like(divergence, torch.nan)
