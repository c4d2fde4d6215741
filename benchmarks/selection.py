"""Probe scores of selected tiles, beside all tiles and the same number of random tiles.

`python benchmarks/selection.py FEATURES [--labels label]`, with FEATURES from `dirl embed` of all tiles. The
held-out tiles of each fold are the same for all. Only the training part is reduced: to the tiles of each
slide that `--select` keeps, or to the same number drawn at random. Appearance is the colour histogram stored
beside the features, as in `dirl embed --select`. Linear probe and 20 neighbours,
balanced accuracy, mean over the seeds of selection and draw. Writes results/selection.json.

For ready-made tiles a "slide" is a folder: where its folders are the classes, both ways keep the share of
each class.
"""

import argparse
from pathlib import Path

import numpy as np
from harness import write

from dirl import ProbeConfig, read_features
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.scores import score_classes
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.common.task import make_task
from dirl.evaluate.probe.linear import linear_scores
from dirl.features.knn import knn_scores
from dirl.store.select import select

NEIGHBOURS = 20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("--labels", default="label")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.15, 0.3])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    features = read_features(given.features)
    labels = read_labels(features, given.labels)
    colours = features.baselines["colour_histogram"]
    config = ProbeConfig(folds=given.folds)
    task = make_task(features, labels, features.ready_made, colours, config)
    rows = np.flatnonzero(labels.classes != "")

    def scores(parts):
        """Balanced accuracy of what is fitted on these rows of the task, a set for each fold."""
        given_ = {how: np.zeros((len(rows), len(task.names))) for how in ("linear", "knn")}
        for fold, train in enumerate(parts):
            test, classes = task.split.folds == fold, task.classes[train]
            known, asked = features.values[rows[train]], features.values[rows[test]]
            aside = validation_part(classes, task.split.groups[train], config.seed)
            given_["linear"][test], _ = linear_scores(known, classes, asked, aside, len(task.names))
            given_["knn"][test] = knn_scores(known, classes, asked, NEIGHBOURS, len(task.names))
        held, truth = task.held_out, task.classes[task.held_out]
        return {how: score_classes(truth, each[held], task.units) for how, each in given_.items()}

    trains = [np.flatnonzero(task.split.folds != fold) for fold in range(len(task.split))]
    whole = scores(trains)
    found = {"all": {how: each.intervals()["balanced_accuracy"] for how, each in whole.items()}}
    print("all", found["all"], flush=True)
    for share in given.shares:
        runs = []
        for seed in range(given.seeds):
            ways = {
                "selected": [chosen(features, colours, rows, train, share, seed) for train in trains],
                "random": [drawn(features, rows, train, share, seed) for train in trains],
            }
            scored = {way: scores(parts) for way, parts in ways.items()}
            runs.append({
                "tiles": {way: sum(map(len, parts)) / len(parts) for way, parts in ways.items()},
                **{
                    how: {
                        **{way: float(each[how].values[0]) for way, each in scored.items()},
                        "selected_over_random": scored["selected"][how].minus(scored["random"][how]),
                        "selected_over_all": scored["selected"][how].minus(whole[how]),
                    }
                    for how in ("linear", "knn")
                },
            })  # fmt: skip
            print(share, seed, runs[-1], flush=True)
        found[f"{share:g}"] = {
            "seeds": runs,
            **{
                how: {way: _spread([run[how][way] for run in runs]) for way in ("selected", "random")}
                for how in ("linear", "knn")
            },
        }
    about = {
        "encoder": features.card.inputs["encoder"],
        "width": features.values.shape[1],
        "tiles": len(rows),
        "split": {"scheme": task.split.scheme, "folds": len(task.split), "digest": task.split.digest},
        "chance": 1 / len(task.names),
    }
    print(write("selection", {**about, "shares": found}))


def chosen(features, colours, rows, train, share, seed):
    """Rows of the training part that `select` keeps, slide by slide."""
    kept = []
    for part in by_slide(features, rows, train):
        part = part[np.argsort(features.tile_ids[rows[part]], kind="stable")]
        placed = not features.ready_made[rows[part]].any()
        places = features.coords[rows[part]] if placed else None
        kept.append(part[select(colours[rows[part]], places, share, seed)])
    return np.sort(np.concatenate(kept))


def drawn(features, rows, train, share, seed):
    """As many of each slide, at random."""
    generator = np.random.default_rng(seed)
    kept = [
        generator.choice(part, max(1, round(share * len(part))), replace=False)
        for part in by_slide(features, rows, train)
    ]
    return np.sort(np.concatenate(kept))


def by_slide(features, rows, train):
    """The training part, slide by slide."""
    slides = features.slide_ids[rows[train]]
    return [train[slides == slide] for slide in np.unique(slides).tolist()]


def _spread(values):
    return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
