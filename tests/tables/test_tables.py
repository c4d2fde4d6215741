"""Tables as users write them: any form says the same, and nothing is left out or merged in silence."""

import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dirl.config import MilConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.labels import Labels, read_labels
from dirl.evaluate.mil.bags import Bags
from dirl.evaluate.mil.labels import read_slide_labels
from dirl.tables.cohort import FromTable, read_cohort
from dirl.tables.match import forms, match_slides
from dirl.tables.read import CENTRE, MISSING, PATIENT, SLIDE, alike, read_csv
from tests.known import known

SLIDES = ["TCGA-CR-7395-01Z.4f", "a, b", "c;d", "é.x"]
PATIENTS = ["p 1", "p 1", "p;2", "ü"]
LABELS = ["tumour", "", "no, none", "tumour"]
ANY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Tiles:
    """Two tiles of each slide, of which nothing else is known."""

    slide_ids = np.repeat(SLIDES, 2)
    tile_ids = np.array([f"{slide}/{i}" for slide in SLIDES for i in range(2)])
    patient_ids = labels = np.full(8, "", "U9")


def bags(slides, tmp_path, patients=None):
    count = len(slides)
    who = np.array(patients or [""] * count)
    files = tuple(tmp_path / f"{slide}.h5" for slide in slides)
    return Bags(
        tmp_path, "", "", ("features",), np.array(slides), who, np.ones(count, int), np.ones(count) > 0, files
    )


@ANY
@given(
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    slide=st.sampled_from([*SLIDE, "Slide ID", "SLIDE-ID", "slideID"]),
    patient=st.sampled_from([*PATIENT, " Case ID "]),
    ending=st.sampled_from(["", ".svs", ".h5", ".ome.tif", ".SVS.h5"]),
    folder=st.sampled_from(["", "/data/x/", "C:\\data\\"]),
    missing=st.sampled_from(["", " ", *MISSING]),
    order=st.permutations(range(4)),
)
def test_every_usual_form_of_a_table_says_the_same(
    tmp_path, delimiter, encoding, newline, quoting, slide, patient, ending, folder, missing, order
):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerow([slide, "stage", patient, "Label"])
    for i in order:
        label = LABELS[i] or missing
        writer.writerow([folder + SLIDES[i] + ending, "ii", PATIENTS[i], f" {label} "])
    path = tmp_path / "l.csv"
    path.write_bytes(text.getvalue().encode(encoding))

    tiles = read_labels(Tiles(), str(path))
    assert tiles.classes.tolist() == np.repeat(LABELS, 2).tolist()
    assert known(tiles.patients).tolist() == np.repeat(PATIENTS, 2).tolist()
    slides = read_slide_labels(path, bags(SLIDES, tmp_path), MilConfig())
    assert slides.bags.tolist() == [0, 2, 3] and slides.names == ("no, none", "tumour")
    assert slides.sources.ids.tolist() == ["patient p 1", "patient p;2", "patient ü"]
    stated, _ = read_cohort(path, SLIDES)
    assert stated == {name: FromTable(patient_id=who) for name, who in zip(SLIDES, PATIENTS, strict=True)}
    for notes in (tiles.notes, slides.notes):
        said = " ".join(notes)
        assert f"patients from column {patient.strip()} (3)" in said
        assert f"rows without Label, left out: 1 ({missing.strip() or 'empty'}: 1)" in said
        assert "unused columns: stage." in said
        assert ("read as Windows-1252" in said) == (encoding == "cp1252")


def test_the_first_column_that_names_a_slide_is_taken(tmp_path):
    (tmp_path / "l.csv").write_text("slide,filename,label\n1,a.svs,x\n2,b.svs,y\n")
    table = read_csv(tmp_path / "l.csv")
    matched = known(match_slides(table, ["a", "b"], [], "here"))
    assert matched.column == "filename" and list(matched.rows) == ["a", "b"] and not matched.unknown
    assert known(match_slides(table, ["z"], [], "here")).unknown == ("1", "2")


def test_endings_are_left_only_where_no_slide_has_them(tmp_path):
    assert forms("x/y/a.svs.h5") == ["a.svs.h5", "a.svs", "a"] and forms(".svs") == [".svs"]
    (tmp_path / "l.csv").write_text("slide,label\na.svs,x\na,y\n")
    table = read_csv(tmp_path / "l.csv")
    assert list(known(match_slides(table, ["a", "a.svs"], [], "")).rows) == ["a.svs", "a"]
    both = known(match_slides(table, ["a.svs", "b"], [], ""))
    assert list(both.rows) == ["a.svs"]  # both rows name it, and agree
    with pytest.raises(ConfigError, match=r"a may be a\.svs or a\.tif"):
        match_slides(table, ["a.svs", "a.tif"], [], "")


def test_rows_that_agree_count_once_and_others_are_refused(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("slide_id,label,note\na,x,1\na.svs,x,2\nb,y,3\n")
    labels = read_slide_labels(path, bags(["a", "b"], tmp_path), MilConfig())
    assert (
        labels.bags.tolist() == [0, 1] and "rows that repeat another row, counted once: 1" in labels.notes[1]
    )
    path.write_text("slide_id,label,case_id\na,x,1\na.svs,x,2\nb,y,3\n")
    with pytest.raises(ConfigError, match=r"two rows have slide_id a\.svs, with different case_id: '1' and"):
        read_slide_labels(path, bags(["a", "b"], tmp_path), MilConfig())


@pytest.mark.parametrize("pair", [("Tumor", "tumor"), ("a b", "A  b"), ("non\u00a0tumour", "nontumour")])
def test_classes_that_differ_only_in_case_or_blanks_are_named(tmp_path, pair):
    assert alike(pair) == [sorted(pair)]
    path = tmp_path / "l.csv"
    path.write_text(f"slide_id,label\na,{pair[0]}\nb,{pair[1]}\nc,z\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="classes differ only in case, blanks or"):
        read_slide_labels(path, bags(["a", "b", "c"], tmp_path), MilConfig())


def test_patients_that_differ_only_in_case_are_named(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("slide_id,case,label\na,P1,x\nb,p1,y\n")
    notes = read_slide_labels(path, bags(["a", "b"], tmp_path), MilConfig()).notes
    assert any("patients differ only in case, blanks or" in n and "'P1' and 'p1'" in n for n in notes)


def test_a_class_that_may_be_a_missing_value_is_refused(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("slide_id,label\na,none\nb,y\n")
    with pytest.raises(ConfigError, match="the class 'none' may be a missing value"):
        read_slide_labels(path, bags(["a", "b"], tmp_path), MilConfig())


def test_a_missing_patient_is_that_of_the_features_or_of_the_barcode(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("slide_id,case_id,label\na,NA,x\nb,q,y\n")
    labels = read_slide_labels(path, bags(["a", "b"], tmp_path, ["TCGA-CR-7395", "other"]), MilConfig())
    assert labels.patients.tolist() == ["TCGA-CR-7395", "q"]


def test_centres_are_read_where_they_are_used(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text(f"tile_id,label,{CENTRE[1]}\n" + "".join(f'"{t}",x,Leeds\n' for t in Tiles.tile_ids))
    assert set(known(read_labels(Tiles(), str(path), centres=True).centres)) == {"Leeds"}
    assert "unused columns: center" in read_labels(Tiles(), str(path)).notes[-1]


def test_a_label_digest_knows_patients_and_centres():
    classes = np.array(["a", "b"])
    digests = {
        Labels(classes).digest,
        Labels(classes, patients=classes).digest,
        Labels(classes, centres=np.array(["b", "a"])).digest,
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04rest", "an Excel workbook or an archive"),
        (b"slide,label\n\x00,1\n", "contains binary data"),
        (b'slide,label\n"a,1\n' + b"x" * 140_000, "cannot be read as CSV"),
        (b"slide,label\na,b,c\n", "row 1 has 3 fields, the header has 2"),
        (b"slide,Slide\na,b\n", "has two columns slide"),
        (b"\xff\xfea", "cannot be read as CSV"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_csv(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="a folder, not a file"):
        read_csv(tmp_path)


def test_excel_and_pandas_habits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\n;slide;label;\n0;a;x;\n\n;b;y\n")
    table = read_csv(path)
    assert table.columns == ("(column 1)", "slide", "label")
    assert [row["slide"] for row in table.rows] == ["a", "b"]
    path.write_text("")
    assert read_csv(path).columns == ()


def test_classes_of_folders_are_told_apart_but_may_be_called_na():
    class Folders(Tiles):
        labels = np.array(["NA", "none"] * 4)

    assert read_labels(Folders(), "label").classes.tolist() == ["NA", "none"] * 4
    Folders.labels = np.array(["Tumor", "tumor"] * 4)
    with pytest.raises(ConfigError, match="labels label: classes differ only in case, blanks or"):
        read_labels(Folders(), "label")
