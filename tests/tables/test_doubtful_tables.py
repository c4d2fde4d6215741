"""Tables with gaps, marks for missing values, decimal commas and open quotes: read as meant, or refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dirl.config import MilConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.mil.labels import read_slide_labels
from dirl.tables.cohort import FromTable, read_cohort
from dirl.tables.read import parse_number, read_csv
from tests.known import known
from tests.tables.test_tables import Tiles, bags

SLIDES = ["a", "b", "c", "d"]


@pytest.fixture
def read(tmp_path):
    """Write a table, and read it as `dirl mil` does."""

    def read(text, **config):
        (tmp_path / "l.csv").write_text(text, encoding="utf-8")
        return read_slide_labels(tmp_path / "l.csv", bags(SLIDES, tmp_path), MilConfig(**config))

    return read


@pytest.mark.parametrize("mark", ["-", "?", "--", ".", "'--", "[Not Available]", "[Unknown]", "…"])
def test_marks_for_a_missing_value_are_missing_and_counted(read, mark):
    labels = read(f"slide_id,patient,label\na,{mark},x\nb,{mark},y\nc,p,{mark}\nd,q,x\n")
    assert labels.sources.ids.tolist() == ["slide a", "slide b", "patient q"]
    said = " ".join(labels.notes)
    assert f"rows without label, left out: 1 ({mark}: 1)" in said and "rows without patient: 2 of 4" in said


def test_minus_is_a_class_beside_plus(read):
    assert read("slide_id,label\na,-\nb,+\nc,++\nd,\n").names == ("+", "++", "-")


@pytest.mark.parametrize("word", ["unknown", "Not Reported", "[not available]", "missing", "none"])
def test_patients_and_classes_that_may_be_missing_are_refused(tmp_path, read, word):
    with pytest.raises(ConfigError, match=r"the class '.*' may be a missing value"):
        read(f"slide_id,label\na,{word}\nb,x\nc,y\n")
    text = f"slide_id,case_id,label\na,{word},x\nb,{word},y\n"
    with pytest.raises(ConfigError, match=r"the patient '.*' may be a missing value"):
        read(text)
    with pytest.raises(ConfigError, match=r"the patient '.*' may be a missing value"):
        read_cohort(tmp_path / "l.csv", SLIDES)


def test_the_first_column_of_patients_that_is_filled_is_taken(read):
    labels = read("slide_id,patient_id,case_id,label\na,,p,x\nb,NA,p,y\nc,,q,x\n")
    assert labels.sources.ids.tolist() == ["patient p", "patient p", "patient q"]


def test_patients_spread_over_two_columns_are_refused(tmp_path, read):
    text = "slide_id,patient_id,case_id,label\na,p,,x\nb,,p,y\nc,q,q,x\n"
    with pytest.raises(ConfigError, match="1 rows have no patient_id, but a case_id"):
        read(text)
    for reader in (lambda p: read_labels(Tiles(), str(p)), lambda p: read_cohort(p, SLIDES)):
        with pytest.raises(ConfigError, match="1 rows have no patient_id, but a case_id"):
            reader(tmp_path / "l.csv")


@pytest.mark.parametrize("pair", [("1", "1.0"), ("7", "007"), ("0", "0.00")])
def test_one_number_in_two_forms_is_no_two_classes(read, pair):
    one, other = pair
    with pytest.raises(ConfigError, match="number format"):
        read(f"slide_id,label\na,{one}\nb,{other}\nc,x\n")
    said = " ".join(read(f"slide_id,patient,label\na,{one},x\nb,{other},y\n").notes)
    assert "patients differ only in case, blanks or number format" in said


def test_the_exact_name_of_a_column_goes_first(read):
    assert read("slide-id,slide_id,label\na,b,x\nb,a,y\n").classes.tolist() == [1, 0]


@pytest.mark.parametrize("text", ['slide_id,label\na,"x\nb,y\nc,x\n', 'slide_id,label\na,"x\nb,y\nc,"z"\n'])
def test_a_quote_that_is_not_closed_swallows_no_rows(read, text):
    with pytest.raises(ConfigError, match=r"cannot be read as CSV \(line \d"):
        read(text)


def test_the_delimiter_is_the_one_that_rows_agree_on(read):
    assert read("slide_id;label;a,b,c,d\na;x;1,2\nb;y;1,2\n").names == ("x", "y")


def test_a_title_above_the_header_is_named(read):
    with pytest.raises(ConfigError, match="start the file with the header"):
        read("Export of today\nslide_id,label\na,x\nb,y\n")


@pytest.mark.parametrize("data", ["version https://git-lfs.github.com/spec/v1\n", "<!DOCTYPE html><html>a,b"])
def test_what_is_no_table_is_named(read, data):
    with pytest.raises(ConfigError, match="not the file itself"):
        read(data)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(0.01, 50), min_size=4, max_size=4))
def test_decimal_commas_are_points(tmp_path, values):
    path, texts = tmp_path / "l.csv", [f"{value:.2f}" for value in values]
    rows = [f"{slide};{text}".replace(".", ",") for slide, text in zip(SLIDES, texts, strict=True)]
    path.write_text("\n".join(["slide;mpp", *rows]))
    stated, _ = read_cohort(path, SLIDES)
    assert [stated[slide] for slide in SLIDES] == [FromTable(mpp=float(text)) for text in texts]
    path.write_text("\n".join(["slide;time;event", *(f"{row};1,0" for row in rows)]))
    labels = read_slide_labels(path, bags(SLIDES, tmp_path), MilConfig(survival=True))
    assert known(labels.times).tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("text", ["1,234", "12,345", "1.234,5", "1_000", "0x10", "1,2,3", ""])
def test_what_may_be_thousands_or_no_number_is_refused(text):
    with pytest.raises(ValueError):
        parse_number(text)


def test_rows_that_differ_in_a_missing_value_say_so(read):
    with pytest.raises(ConfigError, match="different label: 'x' and no value"):
        read("slide_id,label\na,x\na,\nb,y\n")


def test_utf_16_and_quoted_line_breaks(tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes('slide_id\tnote\r\na\t"two\nlines, ""quoted"""\r\n'.encode("utf-16"))
    assert read_csv(path).rows == ({"slide_id": "a", "note": 'two\nlines, "quoted"'},)
