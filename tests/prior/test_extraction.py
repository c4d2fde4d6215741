"""Region extraction."""

from dataclasses import replace

import torch

from dirl.encoders.base import EncoderOutput
from dirl.prior.tokens import Disentangle, Pool, merge_regions, pool


def test_pool_is_the_weighted_mean():
    patches, coverage = torch.randn(2, 6, 4), torch.rand(2, 3, 6)
    expected = torch.stack(
        [
            sum(coverage[:, r, j, None] * patches[:, j] for j in range(6))
            / coverage[:, r].sum(1, keepdim=True)
            for r in range(3)
        ],
        dim=1,
    )
    torch.testing.assert_close(pool(patches, coverage), expected)


def test_an_absent_region_is_zero_and_not_present():
    coverage = torch.zeros(1, 2, 2, 2)
    coverage[0, 0] = 0.5
    output = EncoderOutput(torch.zeros(1, 4), torch.randn(1, 4, 4), torch.zeros(1, 0, 4), (2, 2))
    regions = Pool().regions(output, coverage, min_area=0.01)
    assert regions.present.tolist() == [[True, False]]
    assert (regions.tokens[0, 1] == 0).all()
    assert not Pool().regions(output, coverage, min_area=0.5).present.any()
    assert Pool().regions(output, coverage, min_area=0.49).present.tolist() == [[True, False]]


def test_min_area_of_zero_still_asks_for_something():
    output = EncoderOutput(torch.zeros(1, 4), torch.randn(1, 4, 4), torch.zeros(1, 0, 4), (2, 2))
    assert not Pool().regions(output, torch.zeros(1, 1, 2, 2), min_area=0.0).present.any()


def test_of_dropped_tokens_no_region_has_anything():
    coverage = torch.zeros(1, 2, 2, 2)
    coverage[0, 0, 0], coverage[0, 1, 1] = 1, torch.tensor([0.25, 0.75])
    patches = torch.randn(1, 2, 4)
    whole = EncoderOutput(torch.zeros(1, 4), patches, torch.zeros(1, 0, 4), (2, 2))
    kept = replace(whole, kept=torch.tensor([[2, 3]]))
    both = Pool().regions(kept, coverage, min_area=0.01)
    assert both.present.tolist() == [[False, True]]
    torch.testing.assert_close(both.tokens[0, 1], 0.25 * patches[0, 0] + 0.75 * patches[0, 1])
    assert not Pool().regions(kept, coverage, min_area=0.5).present.any()
    assert Pool().regions(kept, coverage, min_area=0.49).present.tolist() == [[False, True]]


def test_disentangle_looks_only_where_its_region_is():
    torch.manual_seed(0)
    block = Disentangle(8, 2, queries=2)
    patches, coverage = torch.randn(3, 6, 8), torch.rand(3, 2, 6)
    coverage[:, 0, :3] = 0
    tokens = block(patches, coverage)
    changed = patches.clone()
    changed[:, :3] += 5
    again = block(changed, coverage)
    torch.testing.assert_close(tokens[:, 0], again[:, 0])
    assert (tokens[:, 1] - again[:, 1]).abs().min() > 0


def test_disentangle_is_a_softmax_weighted_by_coverage():
    """By hand, with one head: weights in proportion to coverage times exp(q k)."""
    torch.manual_seed(0)
    block = Disentangle(4, 1, queries=1)
    patches, coverage = torch.randn(1, 5, 4), torch.tensor([[[0.0, 0.2, 1.0, 0.5, 0.0]]])
    q = block.q(block.norm(block.queries))[0]
    k, v = block.kv(patches[0]).chunk(2, dim=1)
    weights = coverage[0, 0] * torch.exp(k @ q / 2)
    token = q + block.proj((weights / weights.sum()) @ v)
    expected = token + block.mlp(block.norm2(token))
    torch.testing.assert_close(block(patches, coverage)[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_disentangle_of_nothing_is_finite_and_many_regions_may_share_a_query():
    block = Disentangle(8, 2, queries=1)
    tokens = block(torch.randn(2, 6, 8), torch.zeros(2, 5, 6))
    assert tokens.shape == (2, 5, 8) and torch.isfinite(tokens).all()


def test_lined_up_regions_keep_their_rows():
    output = EncoderOutput(torch.zeros(3, 4), torch.randn(3, 4, 4), torch.zeros(3, 0, 4), (2, 2))
    regions = Pool().regions(output, torch.rand(3, 2, 2, 2), min_area=0.4)
    one = merge_regions(regions)
    assert one.tokens.shape == (6, 1, 4) and one.present.shape == (6, 1)
    torch.testing.assert_close(one.tokens[3, 0], regions.tokens[1, 1])
    assert one.present[3, 0] == regions.present[1, 1]
