"""Which tiles are selected: how many, of every look, the same in any order; what is rare is not lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dirl.config import EmbedConfig, TileConfig, make
from dirl.core.card import read_card
from dirl.core.errors import ConfigError
from dirl.features.embed import embed
from dirl.pretrain.callbacks import Checkpoint
from dirl.pretrain.run import pretrain
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.store.select import describe_selection, quotas, select, select_tiles

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,img_size=64"


def slide(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Looks of three kinds, and places on a grid."""
    generator = np.random.default_rng(seed)
    looks = np.eye(3, 6)[generator.integers(0, 3, count)] + 0.05 * generator.normal(size=(count, 6))
    return looks, np.stack([np.arange(count) % 10, np.arange(count) // 10], axis=1) * 224


@settings(max_examples=20)
@given(
    count=st.integers(1, 80),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 3),
    placed=st.booleans(),
    equal=st.booleans(),
)
def test_the_share_is_kept_and_each_tile_once(
    count: int, share: float, seed: int, placed: bool, equal: bool
) -> None:
    looks, places = slide(count, seed)
    if equal:
        looks[:], places[:] = looks[0], 0
    chosen = select(looks, places if placed else None, share, seed)
    assert len(chosen) == max(1, round(share * count)) and abs(len(chosen) - share * count) < 1
    assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < count
    assert np.array_equal(chosen, select(looks, places if placed else None, share, seed))


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=9), data=st.data())
def test_quotas_are_in_proportion_but_for_the_smallest(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    given_, wanted = quotas(np.array(sizes), count), count * np.array(sizes) / sum(sizes)
    assert given_.sum() == count and (given_ >= 1).all() and (given_ <= sizes).all()
    # Nobody has more than a tile above the proportion, but the one that everybody has.
    assert (given_ <= np.maximum(1, np.ceil(wanted))).all()


def test_every_look_is_there_and_the_rare_one_that_chance_misses() -> None:
    generator, found, by_chance = np.random.default_rng(0), [], []
    for seed in range(20):
        looks, places = slide(200, seed)
        rare = generator.choice(200, 2, replace=False)
        looks[rare] = np.eye(6)[5] + 0.05 * generator.normal(size=(2, 6))
        chosen = select(looks, places, 0.06, seed)
        kinds = looks[:, :3].argmax(axis=1)
        kinds[rare] = 3
        assert set(kinds[chosen].tolist()) == {0, 1, 2, 3}
        found.append(np.isin(rare, chosen).any())
        by_chance.append(np.isin(rare, generator.choice(200, len(chosen), replace=False)).any())
    assert all(found) and sum(by_chance) < 10


def test_tiles_of_one_look_are_spread_over_the_slide() -> None:
    corners = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    places = (corners[:, None] * 10 + np.random.default_rng(0).integers(0, 4, (4, 25, 2))).reshape(-1, 2)
    chosen = select(np.ones((100, 3)), places.astype(float), 0.04, 0)
    assert sorted((chosen // 25).tolist()) == [0, 1, 2, 3]


def test_a_store_is_selected_from_slide_by_slide_in_any_order(small_store, monkeypatch) -> None:
    store = TileStore.open(small_store)
    whole = select_tiles(store, 0.3, 1, quiet=True)
    assert whole.slides == {"slide": (len(whole.numbers), len(store))}
    assert len(whole.numbers) == round(0.3 * len(store)) and (np.diff(whole.numbers) > 0).all()
    expected = set(store.tile_ids[whole.numbers].tolist())
    assert whole.counts["share"] == pytest.approx(0.3, abs=0.02)
    assert describe_selection(whole.counts).startswith(
        f"{len(whole.numbers)} of {len(store)} tiles of 1 slide selected ("
    )
    mixed = np.random.default_rng(0).permutation(len(store))
    assert np.array_equal(select_tiles(store, 0.3, 1, mixed, quiet=True).numbers, whole.numbers)
    shuffled = TileStore.open(small_store)
    monkeypatch.setattr(shuffled, "index", store.index.take(mixed))
    monkeypatch.setattr(shuffled, "image", lambda i: store.image(int(mixed[i])))
    again = select_tiles(shuffled, 0.3, 1, quiet=True)
    assert set(shuffled.tile_ids[again.numbers].tolist()) == expected
    assert set(select_tiles(store, 0.3, 2, quiet=True).numbers.tolist()) != set(whole.numbers.tolist())
    half = np.arange(0, len(store), 2)
    assert np.isin(select_tiles(store, 0.5, 1, half, quiet=True).numbers, half).all()


def test_ready_made_tiles_have_looks_and_no_places(tmp_path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("a", 24), ("b", 3)):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for i in range(count):
            colour = (200, 30, 30) if i == 0 else (120 + int(generator.integers(0, 20)), 60, 160)
            Image.new("RGB", (32, 32), colour).save(tmp_path / "tiles" / name / f"{i:02}.png")
    config = TileConfig(size_px=32, mpp_override=1.0)
    store = TileStore.open(tile([tmp_path / "tiles"], tmp_path / "store", config, quiet=True).path)
    found = select_tiles(store, 0.25, 0, quiet=True)
    assert found.slides == {"a": (6, 24), "b": (1, 3)}
    assert (
        describe_selection(found.counts)
        == "7 of 27 tiles of 2 slides selected (25.9%), of each 25.0% to 33.3%"
    )
    assert "a/00" in store.tile_ids[found.numbers].tolist()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_no_share(recipe, share) -> None:
    for model, others in ((EmbedConfig, {}), (type(recipe), recipe.model_dump())):
        with pytest.raises(ConfigError, match=r"select: Input should be (greater|less) than"):
            make(model, others | {"select": share})


def test_a_run_selects_once(small_store, recipe, tmp_path, monkeypatch) -> None:
    chosen = make(type(recipe), recipe.model_dump() | {"select": 0.5, "steps": 4})
    whole = pretrain(chosen, small_store, tmp_path / "whole", device="cpu", quiet=True)

    def interrupt(*given):
        raise RuntimeError("power cut")

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", interrupt)
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(chosen, small_store, tmp_path / "cut", device="cpu", quiet=True)
    monkeypatch.undo()
    monkeypatch.setattr("dirl.pretrain.run.select_tiles", None)
    cut = pretrain(chosen, small_store, tmp_path / "cut", device="cpu", quiet=True)
    assert cut.finished and cut.metrics == whole.metrics
    assert read_card(cut.path).counts == read_card(whole.path).counts


def test_a_batch_that_a_selection_cannot_fill_is_refused_early(small_store, recipe, tmp_path) -> None:
    few = make(type(recipe), recipe.model_dump() | {"select": 0.01})
    with pytest.raises(ConfigError, match="1 tiles to train on, but a batch of"):
        pretrain(few, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_features_and_a_run_of_a_selection_say_so(small_store, recipe, tmp_path) -> None:
    store = TileStore.open(small_store)
    features = embed(
        ENCODER, small_store, tmp_path / "f", EmbedConfig(select=0.25, seed=4), device="cpu", quiet=True
    )
    chosen = select_tiles(store, 0.25, 4, quiet=True)
    assert features.tile_ids.tolist() == store.tile_ids[chosen.numbers].tolist()
    assert features.card.counts["selected"]["slides"] == {"slide": [len(features), len(store)]}
    assert features.card.config["select"] == 0.25
    few = embed(
        ENCODER,
        small_store,
        tmp_path / "g",
        EmbedConfig(select=0.25, tiles=5, seed=4),
        device="cpu",
        quiet=True,
    )
    assert len(few) == 5 and set(few.tile_ids.tolist()) <= set(features.tile_ids.tolist())

    chosen_recipe = make(type(recipe), recipe.model_dump() | {"select": 0.5, "steps": 2})
    run = pretrain(chosen_recipe, small_store, tmp_path / "run", device="cpu", quiet=True)
    counts = read_card(run.path).counts
    trained = len(store) - counts["held_out"]
    assert counts["tiles"] == round(0.5 * trained) == counts["selected"]["tiles"]
    assert counts["selected"]["of"] == trained
