"""The networks of cellseg-models-pytorch behind dirl's protocol: weights, orientation, classes, batches."""

import json
import shutil
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from dirl.cells.registry import load_segmenter
from dirl.cells.run import cells
from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters import cellseg
from dirl.config import CellsConfig
from dirl.core.errors import ConfigError
from tests.known import known
from tests.segmenter_cases import load_for_images

pytestmark = [
    pytest.mark.skipif(
        find_spec("cellseg_models_pytorch") is None, reason="needs cellseg-models-pytorch: dirl[cells]"
    ),
    pytest.mark.filterwarnings("ignore"),  # of its libraries
]
KINDS: dict[str, Any] = {
    "cellvit": cellseg.CellViT,
    "hovernet": cellseg.HoVerNet,
    "instanseg": cellseg.InstanSeg,
    "stardist": cellseg.StarDist,
}
ORIENTATIONS = {
    "as it is": lambda a: a,
    "left to right": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "transposed": lambda a: np.swapaxes(a, 0, 1),
}
TINY = {
    "cellvit": ("samvit_base_patch16", {"encoder_kws": {"embed_dim": 32, "depth": 4, "num_heads": 2}}),
    "hovernet": ("resnet10t", {"out_channels": [64, 64, 64, 64], "n_dense": [1, 1]}),
    "instanseg": ("resnet10t", {"out_channels": [16, 16, 16, 16]}),
    "stardist": ("resnet10t", {"out_channels": [16, 16, 16, 16]}),
}
CLASSES = ["tumour", "stroma"]


@pytest.fixture(scope="module")
def truth():
    """Ellipses of several sizes, one of each pair touching the next."""
    labels = np.zeros((128, 192), np.int32)
    y, x = np.mgrid[:128, :192]
    for k in range(8):
        row, column = 20 + 28 * (k // 2), 30 + 60 * (k % 2) + 7 * k
        for half in (0, 1):
            inside = ((y - row) / (6 + k / 2)) ** 2 + ((x - column - 18 * half) / 9) ** 2 < 1
            labels[inside & (labels == 0)] = 2 * k + half + 1
    return labels


@pytest.mark.parametrize("turn", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("name", ["hovernet", "cellvit", "stardist"])
def test_perfect_maps_lead_back_to_the_nuclei_that_they_were_drawn_from(truth, name, turn):
    """In any orientation: so the order and the sign of the maps' axes are the library's own."""
    from cellseg_models_pytorch.transforms import gen_dist_maps, gen_hv_maps, gen_stardist_maps

    turned = np.ascontiguousarray(turn(truth))
    types = (turned > 0).astype(np.uint8)
    if name == "stardist":
        rays = gen_stardist_maps(turned, 32).astype(np.float32)
        maps = cellseg.Maps(types, rays, gen_dist_maps(turned).astype(np.float32))
    else:
        maps = cellseg.Maps(types, gen_hv_maps(turned).astype(np.float32), None)
    found, _ = KINDS[name]()._separate(maps, None)
    assert len(np.unique(found)) == len(np.unique(truth)) == 17
    assert score_nuclei(found, turned).pq > 0.85


@pytest.mark.parametrize("name", ["hovernet", "cellvit", "stardist"])
def test_noise_is_no_nuclei(name):
    noise = np.random.default_rng(0).normal(0, 0.05, (32, 64, 64)).astype(np.float32)
    maps = cellseg.Maps(np.zeros((64, 64), np.uint8), noise if name == "stardist" else noise[:2], noise[2])
    assert not KINDS[name]()._separate(maps, None)[0].any()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights of a tiny network of each kind, described beside them."""
    import torch
    from safetensors.torch import save_model

    folder = tmp_path_factory.mktemp("weights")
    for name, (encoder, settings) in TINY.items():
        module, family = KINDS[name].model.split(".")
        library = __import__(f"cellseg_models_pytorch.models.{module}", fromlist=[family])
        torch.manual_seed(0)
        made = getattr(library, family)(
            len(CLASSES) + 1, enc_name=encoder, enc_pretrain=False, device="cpu", model_kwargs=settings
        )
        save_model(made.model, str(folder / f"{name}.safetensors"))
        (folder / f"{name}.json").write_text(json.dumps({"classes": CLASSES, "network": settings}))
        if name == "stardist":
            torch.save(made.model.state_dict(), folder / "plain.pt")
    return folder


def windows(*shapes):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 255, (*shape, 3), np.uint8) for shape in shapes]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_weights_is_all_that_it_takes(files, name):
    """Windows of any size, at another mpp, one by one or together."""
    spec = f"{name},weights={files / name}.safetensors,mpp=0.25"
    segmenter = load_for_images(spec, device="cpu", batch_size=2)
    assert isinstance(segmenter, cellseg.CellsegNetwork)
    assert segmenter.mpp == 0.25 and segmenter.batch_size == 2
    given = windows((40, 33), (40, 33), (20, 64))
    found = segmenter.fit(given, 0.5)(given)
    alone = [load_for_images(spec, device="cpu", batch_size=1).fit(given, 0.5)([w])[0] for w in given]
    for window, mask, other in zip(given, found, alone, strict=True):
        assert mask.labels.shape == window.shape[:2]
        assert mask.class_names == tuple(CLASSES)
        assert len(mask) == len(known(mask.classes)) == len(np.unique(mask.labels[mask.labels > 0]))
        assert (mask.mpp, mask.digest) == (0.5, segmenter.digest)
        assert (mask.labels != other.labels).mean() < 0.01  # a batch sums in another order


def test_a_store_holds_its_nuclei_with_their_classes(files, small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "store")
    spec = f"hovernet,weights={files}/hovernet.safetensors,mpp=1.0"
    config = CellsConfig(segmenter=spec, name="tiny", window_px=128, halo_px=16)
    found = cells(tmp_path / "store", config, device="cpu", batch=2, quiet=True)
    kinds = set(found.nuclei("slide")["class"].to_pylist())
    assert kinds and kinds <= set(CLASSES)


def test_instanseg_puts_pixels_where_they_point(truth):
    """Maps that point to each nucleus' middle, and a classifier that believes them, lead to the nuclei."""
    import torch

    class Near(torch.nn.Module):
        def forward(self, features):
            return 10 * (1 - 4 * features[:, :2].norm(dim=1, keepdim=True))

    class Model:
        probability_net = Near()

    for turn in ORIENTATIONS.values():
        labels = np.ascontiguousarray(turn(truth))
        present = labels > 0
        points = ndimage.center_of_mass(present, labels, np.arange(1, labels.max() + 1))
        middle = np.array([(0, 0), *points])[labels].transpose(2, 0, 1)
        # Offsets are in quarters of a pixel, x before y, and at most 4 either way; far off elsewhere.
        away = (middle - np.indices(labels.shape))[::-1] / 4
        offsets = np.where(present, np.clip(away, -3.99, 3.99), 3.9 * (-1) ** np.indices(labels.shape))
        seed = np.where(present, 4 - np.hypot(*away), -9)
        raw = np.vstack([np.log((offsets + 4) / (4 - offsets)), [seed * 0], [seed]])
        maps = cellseg.Maps(present.astype(np.uint8), raw.astype(np.float32), None)
        found, _ = cellseg.InstanSeg(mpp=0.5)._separate(maps, Model)
        assert score_nuclei(found, labels).pq > 0.85


def test_the_digest_changes_with_weights_classes_and_mpp_and_not_with_their_place(files, tmp_path):
    here = files / "stardist.safetensors"
    before = load_segmenter(f"stardist,weights={here}").digest
    for file in ("stardist.safetensors", "stardist.json"):
        shutil.copy(files / file, tmp_path)
    there = tmp_path / "stardist.safetensors"
    assert load_segmenter(f"stardist,weights={there}", device="cpu", batch_size=7).digest == before
    assert load_segmenter(f"stardist,weights={there},mpp=0.25").digest != before
    (tmp_path / "stardist.json").write_text("{}")
    assert load_segmenter(f"stardist,weights={there}").digest != before
    shutil.copy(files / "instanseg.safetensors", there)
    shutil.copy(files / "stardist.json", tmp_path)
    assert load_segmenter(f"stardist,weights={there}").digest != before


def test_plain_torch_weights_and_unnamed_classes(files, tmp_path):
    shutil.copy(files / "plain.pt", tmp_path)
    (tmp_path / "plain.json").write_text(json.dumps({"network": TINY["stardist"][1]}))
    given = windows((32, 32))
    (mask,) = load_for_images(f"stardist,weights={tmp_path}/plain.pt", device="cpu").fit(given, 0.5)(given)
    assert mask.class_names == ("class 1", "class 2")


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ('{"classes": ["one"]}', "names 1 classes, and the network tells 2 apart"),
        ('{"classes": "tumour"}', "does not describe weights"),
        ('{"names": []}', "does not describe weights"),
        ("[]", "does not describe weights"),
        ("{", "does not describe weights"),
    ],
)
def test_a_wrong_description_is_refused(files, tmp_path, beside, reason):
    shutil.copy(files / "stardist.safetensors", tmp_path)
    known = {"network": TINY["stardist"][1]}
    if beside == '{"classes": ["one"]}':
        beside = json.dumps(known | json.loads(beside))
    (tmp_path / "stardist.json").write_text(beside)
    with pytest.raises(ConfigError, match=reason):
        load_for_images(f"stardist,weights={tmp_path}/stardist.safetensors", device="cpu").fit([], 0.5)


def test_files_that_are_not_its_weights_are_refused(files, tmp_path):
    (tmp_path / "page.safetensors").write_text("<html>")
    (tmp_path / "page.pt").write_text("<html>")
    shutil.copy(files / "stardist.safetensors", tmp_path / "bare.safetensors")
    for spec in (
        f"stardist,weights={tmp_path}/page.safetensors",
        f"stardist,weights={tmp_path}/page.pt",
        f"stardist,weights={tmp_path}/bare.safetensors",  # of another width than the default
        f"hovernet,weights={files}/stardist.safetensors",
    ):
        with pytest.raises(ConfigError, match="is not the weights of a"):
            load_for_images(spec, device="cpu").fit([], 0.5)


def test_without_the_hub_it_says_which_file_to_get(monkeypatch, caplog):
    caplog.set_level("INFO", logger="dirl")
    import huggingface_hub

    def unreachable(repository, file):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(
        ConfigError, match=r"download hovernet_hgsc\S*safetensors of huggingface.co/csmp-hub/\S+"
    ):
        load_for_images("hovernet").fit([], 0.5)
    assert "fetching hovernet_hgsc" in caplog.text
    with pytest.raises(ConfigError, match=r"needs weights — instanseg,weights=FILE"):
        _ = load_segmenter("instanseg").digest
    with pytest.raises(ConfigError, match=r"no file of weights missing.pt — .* or a name: hgsc_v1"):
        _ = load_segmenter("stardist,weights=missing.pt").digest


@pytest.mark.parametrize("mpp", ["fine", "0", "-1", "[]"])
def test_an_mpp_is_a_number(mpp):
    with pytest.raises(ConfigError, match="is no µm/px"):
        load_segmenter(f"stardist,mpp={mpp}")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("dirl.cells.segmenters.network.find_spec", lambda name: None)
    for name, how in (
        ("hovernet", r"pip install 'dirl\[cells\]'"),
        ("cellpose", r"pip install 'dirl\[cellpose\]'"),
        ("histomicstk", "pip install --no-deps histomicstk girder-slicer-cli-web"),
    ):
        with pytest.raises(ConfigError, match=how):
            load_segmenter(name)
