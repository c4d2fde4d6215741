"""Numbers in the report."""

from dirl.report.html import interval, number, signed


def test_numbers() -> None:
    assert number(0.12345) == "0.123"
    assert number(123.456) == "123.5"
    assert number({"value": 0.5}, "effective_share") == "50.0 %"
    assert number(-1e-7) == "0.000" and number(-0.25) == "−0.250"
    assert number(-1e-7, "effective_share") == "0.0 %"
    assert number(None) == number({"value": None}) == "–"


def test_signs_and_intervals() -> None:
    assert signed(-0.25) == "−0.250" and signed(0.25) == "+0.250" and signed(-1e-7) == "0.000"
    assert signed(0.125, "patch_mass") == "+12.5"
    assert interval({"low": 0.1, "high": 0.2}, "patch_mass") == "10.0–20.0"
    assert interval({"low": None, "high": None}) == ""
