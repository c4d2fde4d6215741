"""Labels of slides: what is used, what is refused, what is left out when asked."""

import numpy as np
import pytest

from dirl.config import MilConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.mil.bags import read_bags
from dirl.evaluate.mil.labels import read_slide_labels

CLASSES, SURVIVAL = MilConfig(), MilConfig(survival=True)


@pytest.fixture
def read(write_bag, tmp_path):
    """Return ``read(text, config)`` on the slides a to d, of which c has no tiles and d a feature of NaN."""
    for slide in "ab":
        write_bag(slide, np.ones((2, 3)), patient_id=[f"p{slide}"] * 2)
    write_bag("c", np.ones((0, 3)))
    write_bag("d", [[np.nan, 1, 1]])

    def read(text, config=CLASSES):
        (tmp_path / "l.csv").write_text(text)
        return read_slide_labels(tmp_path / "l.csv", read_bags(tmp_path / "bags", quiet=True), config)

    return read


def test_classes(read):
    labels = read("slide_id,label,fold,other\n b ,yes,1,\na,no,2,\nd,,,\n")
    assert labels.bags.tolist() == [0, 1] and labels.names == ("no", "yes")
    assert labels.classes.tolist() == [0, 1] and labels.folds.tolist() == ["2", "1"]
    assert labels.times is None and labels.outputs == 2
    assert (labels.unlabelled, dict(labels.left_out)) == (2, {})
    assert (labels.sources.kind, labels.sources.ids.tolist()) == ("patients", ["patient pa", "patient pb"])


def test_survival(read):
    labels = read("slide_id,time,event\na,3.5,1\nb,0,0.0\nd,,1\n", SURVIVAL)
    assert labels.names == ("censored", "event") and labels.outputs == 1
    assert labels.classes.tolist() == [1, 0] and labels.times.tolist() == [3.5, 0]
    assert read("slide_id,time,event\na,3,1\nb,1,True\n", SURVIVAL).names == ("event",)


def test_what_is_kept_together(read):
    text = "slide_id,label,patient,group,site\na,x,one,g,s\nb,y,,h,s\n"
    assert read(text).sources.ids.tolist() == ["g", "h"]
    assert read(text).sources.kind == "groups" and read(text).patients.tolist() == ["one", "pb"]
    assert read(text, MilConfig(groups="patient")).sources.ids.tolist() == ["one", "pb"]
    assert read(text, MilConfig(groups="site")).sources.ids.tolist() == ["s", "s"]


@pytest.mark.parametrize(
    ("text", "groups", "message"),
    [
        ("slide_id,grade\na,x", "auto", r"lacks the column label \(there are: slide_id, grade\)"),
        ("slide_id,time,event\na,1,1", "auto", "for survival pass --survival"),
        ("slide_id,label\na,x\n,y", "auto", "row 2 has no slide_id"),
        ("slide_id,label\na,x\na,y", "auto", "two rows have slide_id a, with different label: .x. and .y."),
        ("slide_id,label\na,x\nb,x", "auto", "all 2 labelled slides are of the class x"),
        ("slide_id,label\ne,x", "auto", "of 1 labelled slides, 1 without features: e — correct it"),
        ("slide_id,label,fold\na,x,1\nb,y,", "auto", "1 labelled slides have no fold"),
        ("slide_id,label,site\na,x,1\nb,y,", "site", "1 labelled slides have no site"),
        ("slide_id,label,patient\na,x,1\nb,y,1", "centre", "no such column .* patient or one of: slide_id"),
    ],
)
def test_bad_labels(read, text, groups, message):
    with pytest.raises(ConfigError, match=message):
        read(text, MilConfig(groups=groups))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,label\na,x", r"lacks the columns time, event .* survival needs"),
        ("slide_id,time,event\na,1,maybe", "slide a has the time '1' and the event 'maybe'"),
        ("slide_id,time,event\na,-1,1", "slide a has the time '-1'"),
        ("slide_id,time,event\na,inf,1", "slide a has the time 'inf'"),
        ("slide_id,time,event\na,nan,1", "no row has a time and event"),
        ("slide_id,time,event\na,1,0\nb,2,0", "no event happened"),
    ],
)
def test_bad_survival(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text, SURVIVAL)


def test_what_cannot_be_used_is_named_counted_and_left_out_when_asked(read):
    text = "slide_id,label\n" + "\n".join(f"{s},{'xy'[i % 2]}" for i, s in enumerate("abcdefghi"))
    told = r"of 9 labelled slides, 5 without features: e, f, g, …; 1 without tiles: c; 1 with features that"
    with pytest.raises(ConfigError, match=told):
        read(text)
    labels = read(text, MilConfig(leave_out=True))
    assert labels.bags.tolist() == [0, 1]
    assert labels.left_out == {
        "without features": list("efghi"),
        "without tiles": ["c"],
        "with features that are not finite": ["d"],
    }
    with pytest.raises(ConfigError, match="no labelled slide has features"):
        read("slide_id,label\ne,x\n", MilConfig(leave_out=True))


def test_no_file(read, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_slide_labels(tmp_path / "none.csv", read_bags(tmp_path / "bags", quiet=True), MilConfig())
