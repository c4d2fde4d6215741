"""Groups, schedules and what is frozen."""

import math

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import param_groups_weight_decay
from torch import nn

from dirl.config import EncoderConfig, OptimiserConfig
from dirl.core.errors import ConfigError
from dirl.encoders.vit import ViT
from dirl.pretrain.optimiser import (
    freeze,
    lr_factor,
    make_optimiser,
    parameter_groups,
    set_weight_decay,
    weight_decay_at,
)


class WithMask(ViT):
    """An encoder with a parameter of its own beside timm's, as masked training has."""

    def __init__(self) -> None:
        config = EncoderConfig(name="vit_small_patch14_reg4_dinov2", patch_px=8, width=24, depth=3, heads=2)
        super().__init__(config, 16)
        self.own_token = nn.Parameter(torch.zeros(1, 1, 24))


@pytest.fixture
def modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"encoder": WithMask(), "objective": nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8))}


def encoder_of(modules: dict[str, nn.Module]) -> WithMask:
    encoder = modules["encoder"]
    assert isinstance(encoder, WithMask)
    return encoder


def loss(modules: dict[str, nn.Module], images: torch.Tensor) -> torch.Tensor:
    encoder = encoder_of(modules)
    return modules["objective"](encoder(images).cls + encoder.own_token[:, 0]).square().mean()


def test_the_default_is_adamw_with_timms_groups(modules: dict[str, nn.Module]) -> None:
    import copy

    config, images = OptimiserConfig(), torch.rand(4, 3, 16, 16)
    reference = copy.deepcopy(modules)
    optimiser, schedule = make_optimiser(modules, config, batch=64, steps=20)
    groups = param_groups_weight_decay(nn.ModuleDict(reference), 0.05)
    expected = torch.optim.AdamW(groups, lr=1e-3 / 4, betas=(0.9, 0.95))
    for step in range(5):
        for group in expected.param_groups:
            warm = (step + 1) / 3 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / 18))
            baseline = 1e-6 / 2.5e-4
            group["lr"] = 2.5e-4 * (warm if step < 2 else baseline + (1 - baseline) * warm)
        for one, which in ((modules, optimiser), (reference, expected)):
            which.zero_grad()
            loss(one, images).backward()
            which.step()
        schedule.step()
    for name in modules:
        for ours, theirs in zip(modules[name].parameters(), reference[name].parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_layer_decay_of_every_block(modules: dict[str, nn.Module]) -> None:
    config = OptimiserConfig(layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(modules, config, lr=1.0)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    named = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters()}
    assert sum(len(g["params"]) for g in groups) == len(named) == len(found)
    rates = {"encoder.vit.blocks.0": 0.25, "encoder.vit.blocks.1": 0.5, "encoder.vit.blocks.2": 1.0}
    rates |= {"encoder.vit.norm": 1.0, "objective": 1.0, "encoder": 0.125}
    for name, parameter in named.items():
        rate, decay = found[id(parameter)]
        assert rate == next(rate for start, rate in rates.items() if name.startswith(start)), name
        assert decay == (0.0 if parameter.ndim < 2 else 0.1), name


def test_layer_decay_of_a_timm_model_beside_a_head() -> None:
    model = timm.create_model("vit_tiny_patch16_224", embed_dim=24, depth=3, num_heads=2, num_classes=0)
    modules = {"encoder": model, "head": nn.Linear(24, 2)}
    groups = parameter_groups(modules, OptimiserConfig(layer_decay=0.5), lr=1.0)
    found = {id(p): g["lr"] for g in groups for p in g["params"]}
    stem = ("cls_token", "pos_embed", "patch_embed")
    for name, parameter in model.named_parameters():
        block = -1 if name.startswith(stem) else int(name.split(".")[1]) if "blocks" in name else 2
        assert found.pop(id(parameter)) == 0.5 ** (2 - block), name
    assert set(found) == {id(p) for p in modules["head"].parameters()} and set(found.values()) == {1.0}


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_frozen_blocks_have_no_gradient_and_do_not_move(
    modules: dict[str, nn.Module], layer_decay: float
) -> None:
    encoder = encoder_of(modules)
    freeze(encoder, 2)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimiser, _ = make_optimiser(modules, OptimiserConfig(layer_decay=layer_decay), batch=256, steps=4)
    loss(modules, torch.rand(4, 3, 16, 16)).backward()
    optimiser.step()
    still = ("vit.blocks.0.", "vit.blocks.1.", "vit.patch_embed.", "vit.cls", "vit.reg", "vit.pos")
    for name, parameter in encoder.named_parameters():
        frozen = name.startswith(still)
        assert (parameter.grad is None) == frozen, name
        assert torch.equal(parameter, before[name]) == frozen, name
    held = [p for group in optimiser.param_groups for p in group["params"]]
    assert all(p.requires_grad for p in held)


def test_freezing_nothing_and_too_much(modules: dict[str, nn.Module]) -> None:
    freeze(encoder_of(modules), 0)
    assert all(p.requires_grad for p in modules["encoder"].parameters())
    with pytest.raises(ConfigError, match=r"frozen_blocks: the encoder has 3 blocks, not 4"):
        freeze(encoder_of(modules), 4)


@given(
    steps=st.integers(4, 500),
    warmup=st.floats(0, 0.5),
    lr=st.floats(1e-5, 1e-2),
    batch=st.integers(2, 4096),
)
def test_the_rate_rises_to_its_peak_and_ends_at_its_least(
    steps: int, warmup: float, lr: float, batch: int
) -> None:
    config = OptimiserConfig(lr=lr, warmup_share=warmup, min_lr=1e-6)
    factors = [lr_factor(step, steps, config, batch) for step in range(steps + 1)]
    peak = round(warmup * steps)
    assert max(factors) == factors[peak] == 1.0
    assert factors[:peak] == sorted(factors[:peak]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] * lr * batch / 256 == pytest.approx(min(1e-6, lr * batch / 256))


def test_weight_decay_goes_from_one_end_to_the_other(modules: dict[str, nn.Module]) -> None:
    config = OptimiserConfig(weight_decay=0.04, weight_decay_end=0.4)
    values = [weight_decay_at(step, 11, config) for step in range(12)]
    assert values[0] == pytest.approx(0.04) and values[10] == values[11] == 0.4
    assert values[5] == pytest.approx(0.22) and values == sorted(values)
    assert {weight_decay_at(step, 11, OptimiserConfig(weight_decay=0.2)) for step in range(11)} == {0.2}
    zero = OptimiserConfig(weight_decay=0.0, weight_decay_end=0.4)
    optimiser, _ = make_optimiser(modules, zero, batch=256, steps=4)
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0}
    set_weight_decay(optimiser, 0.3)
    for group in optimiser.param_groups:
        assert {group["weight_decay"]} == {0.3 if p.ndim > 1 else 0.0 for p in group["params"]}
