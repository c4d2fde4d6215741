"""Every recipe that ships loads, says where it comes from, and can be built."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from dirl.config import load_recipe
from dirl.core.errors import ConfigError
from dirl.objectives.base import load_objective
from dirl.pretrain.plan import check_recipe, make_student
from dirl.prior.dense_term import EXTRACTIONS, DenseTerm
from dirl.prior.matching import Semantic
from dirl.prior.source import Boxes
from dirl.study.matrix import expand, load_study

STUDIES = Path(__file__).parents[1] / "studies"
RECIPES = sorted(path.name.removesuffix(".yaml") for path in (files("dirl") / "recipes").iterdir())
OBJECTIVES = ("byol", "dino", "dinov2", "moco", "simclr", "vicreg")
PATCH_8 = ["encoder.patch_px=8", "optimiser.accumulate=4"]
VIT_B = ["encoder.name=vit_base_patch16_224"]


def made(name, *overrides):
    """Build it without weights, which is where the time would go."""
    recipe = load_recipe(name, overrides)
    kind, settings = load_objective(recipe.objective)
    check_recipe(recipe, kind, ranks=1)
    extraction, view_px = EXTRACTIONS[recipe.dense.extract], recipe.views.size_px
    dense = DenseTerm(recipe.dense.weight, Boxes((2,), view_px), Semantic(2, 0.01), extraction)
    with torch.device("meta"):
        student = make_student(recipe.encoder, kind, settings, dense, view_px=view_px, seed=recipe.seed)
    return recipe, student


@pytest.mark.parametrize("name", RECIPES)
def test_it_can_be_built(name):
    recipe, student = made(name)
    assert recipe.dense.weight > 0
    assert student.encoder.patch_px == recipe.encoder.patch_px
    assert recipe.views.size_px % recipe.encoder.patch_px == 0


@pytest.mark.parametrize("name", RECIPES)
def test_its_header_says_what_it_is(name):
    lines = (files("dirl") / "recipes" / f"{name}.yaml").read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    keys = [line.split(":")[0].removeprefix("# ") for line in header if not line.startswith("#  ")]
    assert header == lines[: len(header)]
    assert {"What", "Source", "Command", "Hardware"} <= set(keys)
    assert f"dirl pretrain {name} --store STORE --out RUN" in "\n".join(header)
    assert all(len(line) <= 112 for line in lines)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_the_header_offers(objective):
    options = ["views.rotation=any", "views.stain_jitter=0.2", "encoder.registers=4"]
    _, student = made(f"vit-s16-{objective}", *PATCH_8, *VIT_B, *options)
    assert (student.encoder.width, student.encoder.patch_px) == (768, 8)
    assert student.encoder.vit.num_prefix_tokens == 5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_vanilla_is_one_key_apart(objective):
    dirl, vanilla = (
        load_recipe(f"vit-s16-{objective}"),
        load_recipe(f"vit-s16-{objective}", ["dense.weight=0"]),
    )
    assert vanilla.dense.weight == 0
    assert dirl.model_dump(exclude={"dense"}) == vanilla.model_dump(exclude={"dense"})


def test_the_small_recipes_are_those_of_the_study():
    for run in expand(load_study("objectives-cpu")):
        if run.arm == "pool":
            own = {"dense"} if run.objective == "simclr" else set()  # its dense term is the evidence's
            shipped = load_recipe(f"cpu-{run.objective}")
            assert shipped.model_dump(exclude=own) == run.recipe.model_dump(exclude=own), run.objective


def test_simclrs_dense_term_is_the_one_with_evidence():
    studied = next(run for run in expand(load_study(STUDIES / "confirm.yaml")) if run.arm == "tissue").recipe
    for name in ("demo", "cpu-simclr", "vit-s16-simclr"):
        assert load_recipe(name).dense == studied.dense, name


def test_settings_that_exclude_each_other_are_refused_when_a_recipe_is_read():
    clash = ["dense.regions=grid", "dense.control=shuffled"]
    with pytest.raises(ConfigError, match="dense: regions: grid has no cells for control: shuffled"):
        load_recipe("demo", clash)
    assert load_recipe("demo", [*clash, "dense.weight=0"]).dense.role == "vanilla"
