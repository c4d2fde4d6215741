"""The official Cellpose behind dirl's protocol, with a network that knows the answer in place of its own."""

from importlib.util import find_spec

import numpy as np
import pytest
from scipy import ndimage

from dirl.cells.registry import load_segmenter
from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters import cellpose
from dirl.core.errors import ConfigError
from tests.segmenter_cases import load_for_images

pytestmark = [
    pytest.mark.skipif(find_spec("cellpose") is None, reason="needs cellpose: the extra dirl[cellpose]"),
    pytest.mark.filterwarnings("ignore"),  # of its libraries
]


class Oracle:
    """Gives back what the network would, were it perfect: flows to the middle of dark discs."""

    def __init__(self):
        import torch

        self.device, self.calls = torch.device("cpu"), []

    def eval(self, images, *, batch_size, channel_axis, normalize, compute_masks):
        from cellpose.dynamics import masks_to_flows_gpu

        self.calls.append((len(images), batch_size, normalize["lowhigh"]))
        assert images.dtype == np.float32 and channel_axis == 3 and not compute_masks
        labels = [ndimage.label(image.max(2) < 150)[0] for image in images]
        flows = np.stack([5 * masks_to_flows_gpu(image, self.device)[0] for image in labels], axis=1)
        closeness = np.stack([np.where(image > 0, 6.0, -6.0) for image in labels])
        return None, [None, flows.squeeze(), closeness.squeeze()], None


@pytest.fixture
def oracle(monkeypatch, tmp_path):
    knows = Oracle()
    monkeypatch.setattr(cellpose, "_load", lambda path, device: knows)
    (tmp_path / "cpsam").write_bytes(b"weights")
    return knows, f"cellpose,weights={tmp_path}/cpsam"


def window(step=1):
    y, x = np.mgrid[: 80 * step, : 112 * step] / step + 0.5 / step
    rgb = np.full((80 * step, 112 * step, 3), 230, np.uint8)
    for row, column, radius in ((20, 30, 9), (50, 24, 12), (44, 85, 15)):
        rgb[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 60, 30, 110
    return rgb


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_nuclei_lie_where_its_flows_end_in_any_orientation(oracle, mpp):
    knows, spec = oracle
    segmenter = load_for_images(spec, device="cpu", batch_size=4)
    rgb = window(round(0.5 / mpp))
    turned = [rgb, rgb[:, ::-1].copy(), rgb[::-1].copy(), np.swapaxes(rgb, 0, 1).copy()]
    for image, mask in zip(turned, segmenter.fit([rgb], mpp)(turned), strict=True):
        truth = ndimage.label(image.max(2) < 150)[0].astype(np.int32)
        assert len(mask) == 3 and mask.classes is None and mask.class_names == ()
        assert (mask.mpp, mask.digest) == (mpp, segmenter.digest)
        assert score_nuclei(mask.labels, truth).pq > 0.9
    assert [call[:2] for call in knows.calls] == [(3, 4), (1, 4)]
    # One scale for the whole slide: the same for every window.
    assert knows.calls[0][2] == knows.calls[1][2] == [[60, 230], [30, 230], [110, 230]]


def test_glass_has_no_nuclei(oracle):
    glass = np.full((64, 64, 3), 240, np.uint8)
    (mask,) = load_for_images(oracle[1], device="cpu").fit([], 0.5)([glass])
    assert len(mask) == 0


def test_a_file_that_is_not_its_weights_is_refused(tmp_path):
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(ConfigError, match="is not the weights of Cellpose 4"):
        load_for_images(f"cellpose,weights={tmp_path}/page.pt", device="cpu").fit([], 0.5)


def test_without_the_hub_it_says_which_file_to_get(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", logger="dirl")
    import cellpose.models

    def unreachable(name):
        raise OSError("no route to host")

    monkeypatch.setattr(cellpose.models, "MODEL_DIR", tmp_path)
    monkeypatch.setattr(cellpose.models, "cache_model_path", unreachable)
    with pytest.raises(ConfigError, match=r"download cpsam_v2 of \S+ elsewhere, and pass cellpose,"):
        _ = load_segmenter("cellpose").digest
    assert "fetching its weights" in caplog.text
    with pytest.raises(ConfigError, match="no file of weights missing"):
        _ = load_segmenter("cellpose,weights=missing").digest
