"""The temperature that gives an entropy without training."""

import math

import numpy as np
import pytest
import torch

from dirl.audit.spread import match_temperature
from dirl.encoders.measures import normalised_entropy


def joint_entropy(logits: torch.Tensor, temperature: float) -> float:
    return float(normalised_entropy((logits / temperature).softmax(-1).mean(1)).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.36, 4.0])
def test_the_temperature_is_found(temperature: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (5, 3, 40))).float()
    aim = joint_entropy(logits, temperature)
    assert match_temperature(logits.softmax(-1), aim) == pytest.approx(temperature, rel=1e-3)


def test_an_encoder_has_the_temperature_one_against_itself_whatever_its_patch_mass() -> None:
    generator = np.random.default_rng(1)
    heads = torch.from_numpy(generator.dirichlet(np.full(30, 0.3), (4, 3))).float()
    heads = heads * torch.tensor([0.25, 0.6, 0.99])[:, None]
    joint = heads.mean(1) / heads.mean(1).sum(-1, keepdim=True)
    assert match_temperature(heads, float(normalised_entropy(joint).mean())) == pytest.approx(1, abs=1e-3)


def test_an_entropy_out_of_reach_has_no_temperature() -> None:
    even = torch.full((2, 3, 16), 1 / 16)
    assert match_temperature(even, 0.5) is None
    assert not math.isnan(match_temperature(even, 1.0) or 1.0)
