"""Segmenters by name: options, arguments, and where their cells lie."""

from dataclasses import dataclass

import pytest

from dirl.cells.registry import SegmenterName, cells_name, load_segmenter, parse_segmenter
from dirl.cells.segmenters.hematoxylin import Hematoxylin
from dirl.config import CellsConfig, make
from dirl.core.errors import ConfigError

PLUGIN = f"{__name__}:Fast"


@dataclass(frozen=True)
class Fast:
    threshold: float = 0.5
    device: str = "cpu"
    mpp: float = 0.5
    digest: str = "0123456789abcdef"

    def fit(self, samples, mpp):
        return lambda windows: []


def test_options_are_arguments_of_the_segmenter():
    assert load_segmenter("hematoxylin,threshold=0.6") == Hematoxylin(threshold=0.6)
    assert load_segmenter(f"{PLUGIN},threshold=1") == Fast(threshold=1)


def test_what_bears_on_speed_goes_to_those_that_take_it():
    assert load_segmenter(PLUGIN, device="cuda", batch_size=4) == Fast(device="cuda")
    assert load_segmenter("hematoxylin", device="cuda", batch_size=4) == Hematoxylin()


def test_a_colon_is_an_argument_only_behind_a_declared_name():
    assert parse_segmenter("hematoxylin:x,a=1") == SegmenterName("hematoxylin", "x", {"a": 1})
    assert parse_segmenter("my.module:Mine,a=b") == SegmenterName("my.module:Mine", None, {"a": "b"})


def test_cells_lie_under_the_segmenters_name_or_the_stated_one():
    assert cells_name(CellsConfig(segmenter="hematoxylin,threshold=0.6")) == "hematoxylin"
    assert cells_name(CellsConfig(segmenter="my.module:Mine")) == "my.module.Mine"
    assert cells_name(CellsConfig(name="strict")) == "strict"


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden"])
def test_a_name_is_no_path(name):
    with pytest.raises(ConfigError, match="name"):
        make(CellsConfig, {"name": name})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("hematoxylin,treshold=1", "takes no option treshold .*there are: .*threshold"),
        ("hematoxylin,0.5", "'0.5' is not of the form key=value"),
        (f"{__name__}:missing", "cannot import it"),
        ("math:pi", "has no fit, mpp and digest"),
        ("math:pi,a=1", "takes no options"),
        ("hovernett", "no such segmenter"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(spec, reason):
    with pytest.raises(ConfigError, match=reason):
        load_segmenter(spec)
