"""Bags of real tiles with a known share of one class: how well slide models find them.

`python benchmarks/mil.py FEATURES --positive AC --out DIR`, with FEATURES from `dirl embed` of a store of
labelled, ready-made tiles. A positive bag holds the stated share of tiles of the positive class (at least
one), a negative bag none. Sizes are drawn log-uniformly from 50 to 500 tiles.

Tiles of similar stain are never on both sides of a fold. The tiles of each class are clustered by colour into
ten clusters, and these are divided into five sources. A bag draws all of its tiles from one source, which is
its group. The same bags are made of the features and of their baselines. Writes ``bags.json`` and
``bags.png``; the bags themselves, as HDF5 files that any MIL library reads, and each result of `dirl mil` lie
beside them. After an interruption, the same command goes on.
"""

import argparse
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

from dirl import MilConfig, mil, read_features
from dirl.core.files import read_json, remove, write_json
from dirl.evaluate.common.splits import stain_clusters
from dirl.evaluate.mil.show import MODEL_TITLES
from dirl.report.style import COLOURS, STYLE, encode, new_figure

SOURCES, SMALLEST, LARGEST = 5, 50, 500


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("--positive", required=True, help="label of the tiles that make a bag positive")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--sets", nargs="+", default=["features", "untrained", "colour_histogram"])
    parser.add_argument("--models", nargs="+", default=list(MODEL_TITLES))
    parser.add_argument("--bags", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    features = read_features(given.features)
    sets = {"features": features.values, **features.baselines}
    positive = features.labels == given.positive
    sources = deal_sources(features, given.seed)
    config = MilConfig(
        models=tuple(given.models), inner_folds=2, width=given.width, epochs=given.epochs,
        learning_rates=(1e-3,), seed=given.seed,
    )  # fmt: skip
    fewest = np.bincount(sources[positive], minlength=SOURCES).min()
    if max(given.shares) * LARGEST > fewest:
        parser.error(
            f"a source holds {fewest} tiles of {given.positive}, too few for --shares {max(given.shares)}"
        )
    rows = []
    for share in given.shares:
        bags = make_bags(positive, sources, share, given.bags, given.seed)
        for name in given.sets:
            folder = given.out / f"{name}-{share:g}"
            write_bags(folder, bags, sets[name], features.tile_ids, sources)
            result = mil(folder / "bags", folder / "labels.csv", folder / "mil", config, quiet=True)
            truth = dict(zip(features.tile_ids.tolist(), positive.tolist(), strict=True))
            for model, one in result.summary.models.items():
                metrics = {metric: vars(estimate) for metric, estimate in one.metrics.items()}
                row = {"share": share, "features": name, "model": model, "auroc": metrics["macro_auroc"]}
                row["balanced_accuracy"] = metrics["balanced_accuracy"]
                row["recovery"] = recovery(result.path / "attention" / f"{model}.parquet", truth)
                rows.append(row)
                print(
                    f"{share:g} {name} {model}: AUROC {row['auroc']['value']:.3f}, recovery {row['recovery']}"
                )
            write_json(given.out / "bags.json", report(given, features, result, rows))
    with mpl.rc_context(STYLE):
        (given.out / "bags.png").write_bytes(draw(rows, given.sets))


def deal_sources(features, seed):
    """Source of each tile: each class's clusters of stain, the largest first, go to the smallest source."""
    classes = np.unique(features.labels, return_inverse=True)[1]
    clusters = stain_clusters(features.baselines["colour_histogram"], classes, seed)
    sources = np.zeros(len(classes), np.int64)
    for c in range(classes.max() + 1):
        held = np.zeros(SOURCES, np.int64)
        names, sizes = np.unique(clusters[classes == c], return_counts=True)
        for i in np.argsort(-sizes, kind="stable"):
            sources[clusters == names[i]] = held.argmin()
            held[held.argmin()] += sizes[i]
    return sources


def make_bags(positive, sources, share, count, seed):
    """Tiles of each bag: equally many of every source, half of them positive."""
    generator, bags = np.random.default_rng(seed), []
    for i in range(count):
        source, wanted = i % SOURCES, i // SOURCES % 2 == 1
        here = sources == source
        size = round(np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST))))
        planted = max(1, round(share * size)) if wanted else 0
        tiles = [
            generator.choice(np.flatnonzero(here & kind), number, replace=False)
            for kind, number in ((positive, planted), (~positive, size - planted))
        ]
        bags.append((f"bag{i:03d}", wanted, source, generator.permutation(np.concatenate(tiles))))
    return bags


def write_bags(folder, bags, values, tile_ids, sources):
    """Write one HDF5 file a bag, in the layout of CLAM, and the labels."""
    remove(folder / "bags")
    (folder / "bags").mkdir(parents=True)
    lines = ["slide_id,label,group"]
    for name, wanted, source, tiles in bags:
        assert (sources[tiles] == source).all()
        with h5py.File(folder / "bags" / f"{name}.h5", "w") as file:
            file["features"] = values[tiles]
            file["tile_id"] = tile_ids[tiles].tolist()
        lines.append(f"{name},{'positive' if wanted else 'negative'},source {source}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def recovery(path, truth):
    """AUROC with which attention ranks a positive bag's planted tiles: median and quartiles over bags."""
    table = pq.read_table(path).to_pydict()
    slides, weights = np.array(table["slide_id"]), np.array(table["weight"])
    planted = np.array([truth[tile] for tile in table["tile_id"]])
    found = [
        roc_auc_score(planted[slides == slide], weights[slides == slide])
        for slide in np.unique(slides[planted])
    ]
    return dict(
        zip(("low", "median", "high"), np.percentile(found, [25, 50, 75]).round(4).tolist(), strict=True)
    )


def report(given, features, result, rows):
    """Results, with what they were made from."""
    card = read_json(result.path / "card.json")
    settings = {name: str(value) for name, value in vars(given).items() if name not in ("features", "out")}
    tiles = {str(k): int(v) for k, v in zip(*np.unique(features.labels, return_counts=True), strict=True)}
    kept = {name: card[name] for name in ("python", "versions", "git_commit")}
    split = result.summary.split.to_json() | {"over": result.summary.interval.over}
    return {"settings": settings, "tiles": tiles, "split": split, **kept, "results": rows}


def draw(rows, sets):
    """AUROC and recovery of the planted tiles by share, a line a model, a column a set of features."""
    figure = new_figure((3.4 * len(sets), 5.6))
    axes = figure.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
    titles = {
        "features": "features",
        "untrained": "untrained encoder",
        "colour_histogram": "colour histogram",
    }
    for column, name in enumerate(sets):
        for number, (model, title) in enumerate(MODEL_TITLES.items()):
            chosen = [row for row in rows if row["features"] == name and row["model"] == model]
            if not chosen:
                continue
            chosen.sort(key=lambda row: row["share"])
            x = [100 * row["share"] for row in chosen]
            style = {"color": COLOURS[number], "marker": "o", "markersize": 3.5, "label": title}
            for axis, (key, middle) in zip(
                axes[:, column], (("auroc", "value"), ("recovery", "median")), strict=True
            ):
                axis.plot(x, [row[key][middle] for row in chosen], **style)
            # Quartiles over bags; the intervals of the bags' AUROC all overlap, and stand in the JSON.
            low, high = ([row["recovery"][end] for row in chosen] for end in ("low", "high"))
            axes[1, column].fill_between(x, low, high, color=COLOURS[number], alpha=0.1, linewidth=0)
        axes[0, column].set_title(titles.get(name, name), loc="left")
        axes[1, column].set_xlabel("positive tiles in a positive bag (%)")
        for axis in axes[:, column]:
            axis.axhline(0.5, color="#8a8a8a", linewidth=0.8, linestyle="--")
            axis.set_xscale("log")
            ticks = sorted({100 * row["share"] for row in rows})
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
            axis.minorticks_off()
            axis.grid(axis="y", color="#e3e6ea", linewidth=0.7)
    axes[0, 0].set_ylabel("AUROC of bags")
    axes[1, 0].set_ylabel("AUROC of attention,\npositive tiles in their bag")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return encode(figure, "png")


if __name__ == "__main__":
    main()
