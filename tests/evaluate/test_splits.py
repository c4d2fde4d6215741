"""Folds: nothing that belongs together is parted, and what cannot be split is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.config import ProbeConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.splits import deal, find_sources, make_split, stain_clusters, validation_part
from tests.known import known

NAMES = ("a", "b", "c")


def split(classes, config, *, sources=None, given=None, colours=None, names=NAMES):
    count = len(classes)
    if colours is None:
        colours = np.random.default_rng(0).random((count, 4))
    ids = np.array([f"t{i}" for i in range(count)])
    return make_split(ids, classes, names, config, sources=sources, given=given, colours=colours)


@given(st.integers(0, 999), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_no_group_is_parted_and_every_class_is_spread(seed, folds):
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(30), generator.integers(1, 9, 30))
    classes = (groups % 3).astype(np.int64)
    dealt = deal(classes, groups, NAMES, folds, seed)
    assert set(dealt.tolist()) == set(range(folds))
    assert all(len(np.unique(dealt[groups == g])) == 1 for g in range(30))
    np.testing.assert_array_equal(dealt, deal(classes, groups, NAMES, folds, seed))


def test_stain_clusters_are_ten_of_each_class_and_tell_stains_apart():
    stains = np.repeat(np.arange(10), 6)
    colours = np.tile(np.eye(10)[stains], (2, 1)) + 0.001 * np.random.default_rng(0).random((120, 10))
    classes = np.repeat([0, 1], 60)
    groups = stain_clusters(colours, classes, seed=0)
    assert len(np.unique(groups)) == 20
    for g in np.unique(groups):
        assert len(np.unique(classes[groups == g])) == 1
        assert len(np.unique(np.tile(stains, 2)[groups == g])) == 1


@given(st.integers(0, 999), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_the_part_set_aside_is_of_whole_groups_and_leaves_every_class(seed, count):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, count, 90)
    classes = np.r_[0, 1, 2, generator.integers(0, 3, 87)].astype(np.int64)
    validation = validation_part(classes, groups, seed)
    assert validation.any() and set(classes[~validation].tolist()) == {0, 1, 2}
    if count > 1:
        assert (
            not set(groups[validation].tolist()) & set(groups[~validation].tolist()) or validation.sum() <= 12
        )


def test_the_part_set_aside_holds_a_tenth_of_each_class_where_groups_are_small():
    classes = np.repeat([0, 1, 2], 100)
    validation = validation_part(classes, np.arange(300) // 5, seed=0)
    assert [int(validation[classes == c].sum()) for c in range(3)] == [10, 10, 10]


def test_what_is_kept_together():
    slides, nobody = np.array(["s1", "s2", "s3"]), np.array(["", "", ""])
    no, yes = np.zeros(3, bool), np.ones(3, bool)
    assert find_sources(None, nobody, slides, yes) is None
    assert known(find_sources(None, nobody, slides, no)).kind == "slides"
    patients = known(find_sources(None, np.array(["p", "p", ""]), slides, no))
    assert patients.kind == "patients" and len(np.unique(patients.ids)) == 2
    assert known(find_sources(None, np.array(["p", "p", "q"]), slides, yes)).kind == "patients"
    assert known(find_sources(slides, nobody, slides, yes)).kind == "groups"
    with pytest.raises(ConfigError, match=r"1 of 3 labelled tiles are ready-made .* column group"):
        find_sources(None, np.array(["p", "", "q"]), slides, yes)
    with pytest.raises(ConfigError, match="1 labelled tiles have no group"):
        find_sources(np.array(["g", "", "g"]), nobody, slides, no)


def test_the_scheme_is_the_best_there_is():
    classes = np.tile([0, 1, 2], 40)
    slides = find_sources(
        None, np.full(120, ""), np.array([f"s{i // 6}" for i in range(120)]), np.zeros(120, bool)
    )
    by_slide = split(classes, ProbeConfig(), sources=slides)
    assert by_slide.scheme == "slides" and len(by_slide) == 5
    for s in range(20):
        assert len(np.unique(by_slide.folds[6 * s : 6 * s + 6])) == 1
    assert split(classes, ProbeConfig()).scheme == "stain"
    assert split(classes, ProbeConfig(groups="stain"), sources=slides).scheme == "stain"
    given_folds = np.array([f"f{i // 6 % 4}" for i in range(120)])
    as_given = split(classes, ProbeConfig(), sources=slides, given=given_folds)
    assert as_given.scheme == "folds" and (as_given.folds == np.arange(120) // 6 % 4).all()
    assert split(classes, ProbeConfig(groups="patient"), sources=slides, given=given_folds).scheme == "slides"
    assert len({s.digest for s in (by_slide, as_given)}) == 2


def test_folds_that_part_a_source_are_refused():
    classes, slides = np.tile([0, 1, 2], 40), np.array([f"s{i // 6:02}" for i in range(120)])
    sources = find_sources(None, np.full(120, ""), slides, np.zeros(120, bool))
    folds = np.array([f"f{i // 6 % 4}" for i in range(120)])
    folds[[20, 50]] = "train"
    with pytest.raises(ConfigError, match=r"split 2 of 20 slides, first slide s03 — correct the folds"):
        split(classes, ProbeConfig(), sources=sources, given=folds)
    # Not asked for, they part nothing.
    assert split(classes, ProbeConfig(groups="patient"), sources=sources, given=folds).scheme == "slides"


def test_a_fold_named_train_is_never_held_out():
    classes = np.tile([0, 1, 2], 40)
    given_folds = np.where(np.arange(120) < 90, "train", "test")
    found = split(classes, ProbeConfig(), given=given_folds)
    assert len(found) == 1 and (found.folds == np.where(np.arange(120) < 90, -1, 0)).all()


def test_the_digest_is_of_tiles_and_folds_not_of_their_order():
    classes = np.tile([0, 1, 2], 20)
    folds = np.array([str(i % 4) for i in range(60)])
    ids = np.array([f"t{i}" for i in range(60)])
    colours, order = np.random.default_rng(0).random((60, 3)), np.random.default_rng(1).permutation(60)

    def digest(o):
        return make_split(
            ids[o], classes[o], NAMES, ProbeConfig(), sources=None, given=folds[o], colours=colours[o]
        ).digest

    assert digest(np.arange(60)) == digest(order)


def test_what_cannot_be_split():
    classes = np.r_[np.repeat([0, 1], 30), 2, 2]
    with pytest.raises(ConfigError, match=r"class c comes from 2 groups .*too few for 5 folds"):
        split(classes, ProbeConfig())
    with pytest.raises(ConfigError, match="no folds or groups are given"):
        split(classes, ProbeConfig(groups="given"))
    with pytest.raises(ConfigError, match="patients and slides are unknown"):
        split(classes, ProbeConfig(groups="patient"))
    with pytest.raises(ConfigError, match="only one fold, x"):
        split(classes, ProbeConfig(), given=np.full(62, "x"))
    with pytest.raises(ConfigError, match="1 labelled tiles have no fold"):
        split(classes, ProbeConfig(), given=np.array([*["x"] * 61, ""]))
    with pytest.raises(ConfigError, match=r"without fold 2, the class c is left with 0 tiles"):
        split(
            classes, ProbeConfig(), given=np.where(classes == 2, "z", np.where(np.arange(62) % 2, "z", "a"))
        )
