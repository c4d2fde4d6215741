"""Region extraction."""

import torch

from dirl.encoders.encoder import EncoderOutput
from dirl.objectives.regions import extract, pool


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
    regions = extract(output, coverage, min_area=0.01)
    assert regions.present.tolist() == [[True, False]]
    assert (regions.tokens[0, 1] == 0).all()
    torch.testing.assert_close(regions.mass, torch.tensor([[0.5, 0.0]]))


def test_min_area_of_zero_still_asks_for_something():
    output = EncoderOutput(torch.zeros(1, 4), torch.randn(1, 4, 4), torch.zeros(1, 0, 4), (2, 2))
    assert not extract(output, torch.zeros(1, 1, 2, 2), min_area=0.0).present.any()
