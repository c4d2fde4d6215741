"""Downloads of weights: where they come from, and what to do without a connection."""

import pytest
import timm

from dirl.core.errors import EncoderError
from dirl.encoders import timm_models

AT_A_URL = "gcvit_xxtiny.in1k"  # on no hub
ON_THE_HUB = "vit_tiny_patch16_224.augreg_in21k"


@pytest.mark.parametrize(
    ("name", "host", "advice"),
    [
        (AT_A_URL, "github.com", r"download https://github\.com/\S+/(gcvit\S+\.pth) on a .*,weights=\1"),
        (ON_THE_HUB, "the Hugging Face hub", r"model\.safetensors of huggingface\.co/timm/vit_tiny\S+ on a"),
    ],
)
def test_a_failed_download_names_the_place_of_the_file(name, host, advice, monkeypatch, caplog):
    def fail(*given, **options):
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", fail)
    caplog.set_level("INFO", logger="dirl")
    with pytest.raises(EncoderError, match=rf"cannot fetch.*no connection.*{advice}"):
        timm_models.fetch(name, {})
    assert f"from {host}, unless cached" in caplog.text
