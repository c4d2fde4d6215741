"""Encoders by name: their architectures are those of their publications, and their weights are found."""

import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import ClassVar

import pytest
import timm
import torch
from safetensors.torch import save_file

from dirl.core.errors import DirlWarning, EncoderError
from dirl.encoders.attention import anatomy, token_grid
from dirl.encoders.forms import parse_form
from dirl.encoders.known import known_encoders
from dirl.encoders.loading import LoadedEncoder, load_encoder, warn_resolution
from dirl.encoders.timm_models import create

# Millions of weights (publications round them: UNI 303, UNI2-h 681, Virchow 631, Prov-GigaPath 1,130), side
# of the token grid, tokens ahead of the patches, width of the embedding.
PUBLISHED = {
    "uni": (303.35, 14, 1, 1024),
    "uni2-h": (681.39, 16, 9, 1536),
    "virchow": (631.23, 16, 1, 2560),
    "virchow2": (631.24, 16, 5, 2560),
    "prov-gigapath": (1134.95, 14, 1, 1536),
    "h-optimus-0": (1134.77, 16, 5, 1536),
    "h-optimus-1": (1134.77, 16, 5, 1536),
    "h0-mini": (85.74, 16, 5, 768),
    "phikon": (85.80, 14, 1, 768),
    "phikon-v2": (303.35, 14, 1, 1024),
    "hibou-b": (85.74, 16, 5, 768),
    "hibou-l": (303.66, 16, 5, 1024),
    "kaiko-vits8": (21.67, 28, 1, 384),
    "kaiko-vits16": (21.67, 14, 1, 384),
    "kaiko-vitb8": (85.81, 28, 1, 768),
    "kaiko-vitb16": (85.80, 14, 1, 768),
    "kaiko-vitl14": (303.23, 16, 5, 1024),
    "midnight-12k": (1134.77, 16, 1, 3072),
    "lunit-vits8": (21.67, 28, 1, 384),
    "lunit-vits16": (21.67, 14, 1, 384),
    "gpfm": (303.23, 16, 1, 1024),
    "dinov2-s": (21.63, 16, 1, 384),
    "dinov2-b": (85.72, 16, 1, 768),
    "dinov2-l": (303.23, 16, 1, 1024),
    "dinov2-g": (1134.77, 16, 1, 1536),
    "dinov3-s": (21.59, 16, 5, 384),
    "dinov3-b": (85.64, 16, 5, 768),
    "dinov3-l": (303.08, 16, 5, 1024),
}


def shell(known) -> LoadedEncoder:
    """An encoder without data in its weights: shapes alone, so that the largest need no memory."""
    with torch.device("meta"):
        model = create(known.architecture, known.arguments, seed=0)
    ours = {"patch_px": 1, "input_px": known.side, "mean": known.mean, "std": known.std, "run": None}
    facts = {"architecture": known.architecture, "arguments": known.arguments, "pooled": known.pooled}
    return LoadedEncoder(name=known.name, spec=known.name, digest="", model=model, **ours, **facts)


def test_every_name_has_published_facts():
    assert list(known_encoders()) == list(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_encoder_is_that_of_its_publication(name):
    known = known_encoders()[name]
    millions, grid, ahead, width = PUBLISHED[name]
    encoder = shell(known)
    assert sum(weight.numel() for weight in encoder.model.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.01
    )
    assert anatomy(encoder.model).query == "cls"
    assert token_grid(encoder.model, known.side, known.side) == (grid, grid)
    assert encoder.timm.num_prefix_tokens == ahead
    assert encoder.embed(torch.zeros(2, 3, known.side, known.side, device="meta")).shape == (2, width)


def test_class_and_mean_are_joined_without_registers():
    known = known_encoders()["virchow2"]
    arguments = {**known.arguments, "depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 28}
    model = create(known.architecture, arguments, seed=0)
    encoder = replace(shell(known_encoders()["kaiko-vits16"]), model=model, pooled=known.pooled)
    images = torch.rand(2, 3, 28, 28)
    tokens = model.forward_features(images)
    expected = torch.cat([tokens[:, 0], tokens[:, 5:9].sum(1) / 4], dim=1)
    torch.testing.assert_close(encoder.embed(images), expected)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_local_weights_give_the_models_own_embedding(form, tmp_path):
    known = known_encoders()["lunit-vits16"]
    model = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    place = tmp_path if form == "folder" else tmp_path / "model.safetensors"
    encoder = load_encoder(f"lunit-vits16,weights={place}")
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder.embed(images), model(images))
    assert (encoder.mean, encoder.input_px, encoder.random) == (known.mean, 224, False)
    assert load_encoder("lunit-vits16,weights=random").random


def test_a_name_that_is_also_a_run_is_refused(tmp_path, monkeypatch):
    (tmp_path / "uni" / "encoder").mkdir(parents=True)
    (tmp_path / "uni" / "encoder" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match=r"also a run in this folder .*write \./uni"):
        parse_form("uni")
    assert parse_form("./uni")[0] == "run"


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(EncoderError, match="did you mean virchow2"):
        parse_form("virchow-2")


@pytest.mark.parametrize(
    ("tile_px", "mpp", "warned"),
    [(224, 0.5, False), (256, 0.5, False), (224, 0.25, True), (448, 0.25, False), (224, 1.0, True)],
)
def test_a_resolution_far_from_the_training_is_a_warning(tile_px, mpp, warned, recwarn):
    encoder = replace(shell(known_encoders()["lunit-vits16"]), trained_mpp=(0.5,))
    warn_resolution(encoder, tile_px, mpp)
    assert [one.category for one in recwarn if one.category is DirlWarning] == [DirlWarning] * warned


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one small timm model: free, or behind an answer of 401 or 403."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        owner, name = self.path.split("/")[1], self.path.rpartition("/")[2]
        if owner.startswith("gated"):
            self.send_response(int(owner.removeprefix("gated")))
            self.send_header("X-Error-Code", "GatedRepo")
            found = b""
        elif name not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            found = b""
        else:
            found = self.files[name]
            self.send_response(200)
            self.send_header("ETag", f'"{name}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        if body:
            self.wfile.write(found)

    def log_message(self, *given):
        pass


@pytest.fixture
def hub(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 224, 224]}
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1}, "pretrained_cfg": settings}
    weights = (tmp_path / "pytorch_model.bin").read_bytes()
    Hub.files = {"config.json": json.dumps(config).encode(), "pytorch_model.bin": weights}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


LOAD = """
import sys
from dirl.core.errors import EncoderError
from dirl.encoders import known, loading
arguments = {"img_size": 224, "depth": 1}
one = known.KnownEncoder("tiny", sys.argv[1], "vit_tiny_patch16_224", arguments, (0.5,), "", "", False)
loading.find_known = lambda name: one
try:
    by_hub = f"timm:hf-hub:{sys.argv[1]}"
    print(loading._load_known("tiny", "tiny").digest, loading.load_encoder(by_hub).digest)
except EncoderError as error:
    print(error)
"""


def load_from(hub, repository, home):
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repository],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_weights_are_downloaded_from_a_hub(hub, tmp_path):
    by_name, by_hub = load_from(hub, "free/tiny", tmp_path / "home").split()
    assert by_name == by_hub and len(by_name) == 16


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_encoder_says_how_to_get_access(hub, tmp_path, status):
    found = load_from(hub, f"gated{status}/tiny", tmp_path / "home")
    assert "tiny: the hub gives model.safetensors" in found and "only to accounts with access" in found
    assert f"request access at https://huggingface.co/gated{status}/tiny, and run `hf auth login`" in found
    assert "tiny,weights=FILE" in found
