"""What is found under the paths that a user names."""

import os
from pathlib import Path

import pytest
from PIL import Image

from dirl.core.card import new_card
from dirl.core.claim import claim
from dirl.core.errors import SlideError
from dirl.slides.discovery import SlideInput, TilesInput, find_inputs
from dirl.slides.reading import open_slide


def image(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side)).save(path)
    return path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_file_is_a_slide_whatever_it_is_called(tmp_path):
    path = touch(tmp_path / "a.weird")
    assert find_inputs([path, path]) == [SlideInput("a", path)]


def test_a_folder_stands_for_its_slides_at_any_depth(tmp_path):
    for name in ("b.svs", "deep/er/c.NDPI", ".hidden/d.svs", "notes.txt", "b.labels.png"):
        touch(tmp_path / name)
    assert [item.slide_id for item in find_inputs([tmp_path])] == ["b", "c"]


def test_what_a_command_made_beside_the_slides_is_not_looked_into(tmp_path):
    touch(tmp_path / "a.svs")
    image(tmp_path / "store" / "pictures" / "a.jpg")
    assert len(find_inputs([tmp_path])) == 2
    touch(tmp_path / "store" / "card.json")
    assert [item.slide_id for item in find_inputs([tmp_path])] == ["a"]


def test_a_link_that_leads_nowhere_is_an_input(tmp_path):
    touch(tmp_path / "a.svs")
    (tmp_path / "b.svs").symlink_to(tmp_path / "gone.svs")
    assert [item.slide_id for item in find_inputs([tmp_path])] == ["a", "b"]


def test_plain_images_of_a_folder_are_slides(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b.jpg")
    assert [type(item) for item in find_inputs([tmp_path])] == [SlideInput, SlideInput]


def test_sub_folders_of_images_are_classes(tmp_path):
    files = [image(tmp_path / "benign" / f"{i}.png") for i in range(3)]
    image(tmp_path / "tumour" / "0.tif")
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.txt").write_text("")
    found = find_inputs([tmp_path])
    assert [item.slide_id for item in found] == ["benign", "tumour"]
    assert found[0] == TilesInput("benign", tmp_path / "benign", tuple(files))


@pytest.mark.parametrize("stray", ["benign/deeper/1.png", "benign/slide.svs", "loose.png"])
def test_a_folder_with_anything_else_is_no_set_of_classes(tmp_path, stray):
    image(tmp_path / "benign" / "0.png")
    touch(tmp_path / stray)
    assert all(isinstance(item, SlideInput) for item in find_inputs([tmp_path]))


def test_the_data_folder_of_an_mrxs_is_not_looked_into(tmp_path):
    touch(tmp_path / "a.mrxs")
    touch(tmp_path / "a" / "Data0.png")
    assert find_inputs([tmp_path]) == [SlideInput("a", tmp_path / "a.mrxs")]


def test_slides_of_one_name_are_told_apart(tmp_path):
    for name in ("p1/HE/slide.svs", "p2/HE/slide.svs", "p2/HE/other.svs"):
        touch(tmp_path / name)
    assert sorted(item.slide_id for item in find_inputs([tmp_path])) == [
        "other",
        "p1_HE_slide",
        "p2_HE_slide",
    ]


def test_names_that_differ_in_dots_only_are_told_apart(tmp_path):
    touch(tmp_path / "x" / "a.b.svs")
    touch(tmp_path / "y" / "a_b.svs")
    assert sorted(item.slide_id for item in find_inputs([tmp_path])) == ["x_a.b", "y_a_b"]


def test_two_files_of_one_name_in_one_folder_are_an_error(tmp_path):
    touch(tmp_path / "a.svs")
    touch(tmp_path / "a.ndpi")
    with pytest.raises(SlideError, match=r"several slides would have the same name.*rename"):
        find_inputs([tmp_path])


def test_a_slide_that_is_reached_twice_is_taken_once_and_that_is_said(tmp_path, monkeypatch):
    path = touch(tmp_path / "in" / "a.svs")
    touch(tmp_path / "in" / "b.svs")
    (tmp_path / "in" / "link.svs").symlink_to(path)
    (tmp_path / "in" / "hard.svs").hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    found = find_inputs(
        [tmp_path / "in", path, Path("in/../in/a.svs"), tmp_path / "in" / "link.svs"], said.append
    )
    assert [item.slide_id for item in found] == ["a", "b"]
    assert len(said) == 1
    assert said[0].startswith("found twice, used once: 5 of the inputs, the first ")
    said.clear()
    assert len(find_inputs([path, tmp_path / "in" / "b.svs"], said.append)) == 2
    assert not said


def test_a_folder_linked_into_itself_is_searched_once(tmp_path):
    touch(tmp_path / "in" / "sub" / "a.svs")
    for name in ("in/loop", "in/sub/up", "in/0th"):
        (tmp_path / name).symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    assert find_inputs([tmp_path / "in"]) == [SlideInput("a", tmp_path / "in" / "sub" / "a.svs")]


@pytest.mark.parametrize("place", [b"caf\xe9.png", b"caf\xe9/a.png", b"set/x/caf\xe9.png"])
def test_a_name_that_is_not_utf8_is_refused_by_its_name(tmp_path, place):
    path = tmp_path / os.fsdecode(place)
    try:
        image(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    root = tmp_path / os.fsdecode(place.split(b"/")[0])
    for inputs in ([root], [path]):
        with pytest.raises(SlideError, match=r"caf\\xe9.*its name is not UTF-8 — rename it"):
            find_inputs(inputs)
    with pytest.raises(SlideError, match=r"caf\\xe9.*its name is not UTF-8"):
        open_slide(path, 0.5)
    with pytest.raises(SlideError, match=r"caf\\xe9.*its name is not UTF-8"):
        claim(path, new_card("tile", {}))


def test_nothing_and_nowhere_are_errors(tmp_path):
    with pytest.raises(SlideError, match="holds no slide and no image"):
        find_inputs([tmp_path])
    with pytest.raises(SlideError, match=r"none: no such file or folder"):
        find_inputs([tmp_path / "none"])


def test_the_files_of_a_dicom_series_are_one_slide(data_dir):
    folder = data_dir / "slides" / "dicom-cmu-1-small-region"
    assert find_inputs([folder]) == [SlideInput("dicom-cmu-1-small-region", folder)]
    names = [item.slide_id for item in find_inputs([data_dir / "slides"])]
    assert len(names) == 4
    said: list[str] = []
    assert len(find_inputs([next(folder.glob("*.dcm")), folder], said.append)) == 1
    assert len(said) == 1
