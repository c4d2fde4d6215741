"""Numbers in the report."""

from dataclasses import replace
from pathlib import Path

from dirl.core.card import new_card
from dirl.report.html import format_interval, format_number, format_signed, page


def test_numbers() -> None:
    assert format_number(0.12345) == "0.123"
    assert format_number(123.456) == "123.5"
    assert format_number({"value": 0.5}, "effective_share") == "50.0 %"
    assert format_number(-1e-7) == "0.000" and format_number(-0.25) == "−0.250"
    assert format_number(-1e-7, "effective_share") == "0.0 %"
    assert format_number(None) == format_number({"value": None}) == "–"


def test_signs_and_intervals() -> None:
    assert (
        format_signed(-0.25) == "−0.250"
        and format_signed(0.25) == "+0.250"
        and format_signed(-1e-7) == "0.000"
    )
    assert format_signed(0.125, "patch_mass") == "+12.5"
    assert format_interval({"low": 0.1, "high": 0.2}, "patch_mass") == "10.0–20.0"
    assert format_interval({"low": None, "high": None}) == ""


def test_a_page_is_the_same_after_an_interruption(tmp_path: Path) -> None:
    """A card that is taken up again lists the files that are written already."""
    template = tmp_path / "page.html"
    template.write_text("{{ card_text }}")
    card = new_card("audit", {"tiles": 3}, {})
    again = replace(card, files={"measures.parquet": {"sha256": "0" * 64, "bytes": 3}})
    assert page(template, card, {}) == page(template, again, {})
    assert "tiles" in page(template, card, {})
