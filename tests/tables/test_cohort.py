"""The table in which a user states what slides' files do not tell."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dirl.core.errors import ConfigError
from dirl.slides.base import tcga_origin
from dirl.tables.cohort import FromTable, read_cohort


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "slides.csv").write_text(text, encoding="utf-8-sig")
        return tmp_path / "slides.csv"

    return write


def test_what_is_stated_is_read_and_what_is_empty_is_not(table):
    path = table("stage,slide_id,mpp,centre\n3,a,0.25,Torino\n,b,,\n1,c, ,Leeds\n")
    assert read_cohort(path, ["a", "b"])[0] == {
        "a": FromTable(None, "Torino", 0.25),
        "b": FromTable(),
        "c": FromTable(None, "Leeds", None),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("centre\nTorino\n", "has the columns centre"),
        ("", r"has the columns \(none\)"),
        ("slide_id,centre\na,x\na,y\n", "two rows have slide_id a, with different centre"),
        ("slide_id,mpp\na,half\n", r"slides.csv, a: 'half' is not an mpp"),
        ("slide_id,mpp\na,-1\n", "'-1' is not an mpp"),
        ("slide_id,mpp\na,inf\n", "'inf' is not an mpp"),
    ],
)
def test_what_is_no_such_table_is_named(table, text, reason):
    with pytest.raises(ConfigError, match=reason):
        read_cohort(table(text), ["a"])


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_cohort(tmp_path / "none.csv", [])
    (tmp_path / "bytes.csv").write_bytes(b"slide_id,centre\n\x89PNG\x00\n")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read_cohort(tmp_path / "bytes.csv", [])


def test_barcodes_tell_patient_and_site():
    assert tcga_origin("TCGA-CR-7395-01A-01-TS1.svs") == ("TCGA-CR-7395", "TCGA-CR")
    assert tcga_origin("slide-TCGA-CR-7395-01A") == (None, None)
    assert tcga_origin("TCGA-CR-7395") == (None, None)


NAMES = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=8).filter(lambda name: name[0].isalpha())
FACTS = st.tuples(NAMES | st.just(""), st.floats(0.05, 20) | st.none())
"""A patient, and a resolution."""


@settings(max_examples=50, deadline=None)
@given(
    rows=st.dictionaries(
        NAMES, st.tuples(NAMES | st.just(""), st.floats(0.05, 20) | st.none()), min_size=1, max_size=8
    ),
    delimiter=st.sampled_from(",;\t"),
    patient=st.sampled_from(["patient_id", "Case ID", "case_submitter_id", "Patient"]),
    ending=st.sampled_from(["", ".svs", ".ome.tif"]),
    comma=st.booleans(),
)
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, tuple[str, float | None]],
    delimiter: str,
    patient: str,
    ending: str,
    comma: bool,
) -> None:
    def number(mpp: float | None) -> str:
        text = "" if mpp is None else f"{mpp:.4f}"
        return text.replace(".", ",") if comma and delimiter != "," else text

    lines = [delimiter.join(["slide", patient, "mpp"])]
    lines += [
        delimiter.join([f"scans/{name}{ending}", who, number(mpp)]) for name, (who, mpp) in rows.items()
    ]
    path = tmp_path_factory.mktemp("t") / "cohort.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    doubtful = {"na", "nan", "null", "none"}
    assume(not any(who.casefold() in doubtful for who, _ in rows.values()))
    found, _ = read_cohort(path, list(rows))
    for name, (who, mpp) in rows.items():
        expected = None if mpp is None else float(f"{mpp:.4f}")
        assert found[name] == FromTable(who or None, None, expected)
