"""Options of `hematoxylin`: the table in the docs is that of the code, and nonsense is refused."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dirl.cells.registry import load_segmenter
from dirl.cells.segmenters.hematoxylin import Hematoxylin
from dirl.core.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "cells.md"


def test_the_table_holds_every_option_with_its_default() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\d., ]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    table = {
        name.strip("`"): float(value)
        for names, values in rows
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    assert table == {one.name: one.default for one in fields(Hematoxylin) if one.name != "outlining"}


@pytest.mark.parametrize("option", ["threshold=5", "least_um2=-1", "hue=2", "mpp=0", "around_um=inf"])
def test_an_option_out_of_range_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option.partition('=')[0]}=.* is not between"):
        load_segmenter(f"hematoxylin,{option}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("geojson", "needs a folder or a file — name it after a colon: geojson:DIR_OR_FILE"),
        ("geojsn:outlines", "did you mean geojson:outlines?"),
        ("hematoxyln", "no such segmenter"),
        ("hematoxylin,treshold=1", "takes no option treshold"),
    ],
)
def test_a_misspelt_segmenter_is_answered_in_our_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_segmenter(spec)
