"""A misspelt name or option of a timm model is answered before anything is fetched."""

import pytest

from dirl.core.errors import EncoderError
from dirl.encoders.loading import load_encoder


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_224.augreg_in21k"])
def test_a_misspelt_option_is_named_and_nothing_is_fetched(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dirl.encoders.timm_models.fetching", None)
    with pytest.raises(EncoderError, match=r"takes no option weight .*did you mean weights"):
        load_encoder(f"timm:{name},weight=random")


def test_only_models_that_the_audit_can_read_are_suggested() -> None:
    with pytest.raises(EncoderError, match=r"did you mean vit_small_[^,]*, vit_small"):
        load_encoder("timm:vit_smal")
