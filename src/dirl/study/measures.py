"""The measures of a run: which are compared, and what tables call them."""

from dirl.config import RobustConfig

PRIMARY = "entropy_joint"
"""The measure that every planned contrast tests: normalised entropy of the joint map (docs/method.md)."""

# Titles of the measures; the first is the primary one. Attention is that of the last block: of the joint map,
# the heads' average, unless the title says otherwise.
TITLES = {
    PRIMARY: "entropy",
    "entropy_tissue": "entropy on tissue",
    "entropy_training": "entropy at the training's size",
    "head_diversity": "divergence of heads",
    "entropy_per_head": "entropy per head",
    "entropy_untrained": "entropy, untrained",
    "gini": "Gini",
    "effective_tokens": "effective tokens",
    "enrichment_nuclei": "nuclei, log2",
    "enrichment_rest": "rest, log2",
    "enrichment_glass": "glass, log2",
    "components50": "nuclei attended",
    "top10_mass": "top 10 % mass",
    "patch_mass": "patch mass",
    "prior_contrast": "prior contrast",
    "embedding_std": "embedding std",
    "embedding_rank": "embedding rank",
    "rank_held_out": "embedding rank, held out",
    "loss_first": "first loss",
    "loss_last": "last loss",
    "retrieval": "view retrieval",
    "knn": "kNN",
    "linear": "linear",
    "few_shot": "4 labels a class",
    "knn_tokens": "kNN, patch tokens",
    "linear_tokens": "linear, patch tokens",
    "few_shot_tokens": "4 labels a class, patch tokens",
    "token_nuclei": "nuclei, tokens (AUROC)",
    "token_types": "types of nuclei, tokens",
    **{f"drift_{kind}": f"drift, {kind}" for kind in RobustConfig().damage},
    "knn_untrained": "kNN, untrained",
    "knn_colour": "kNN, colour",
    "knn_histogram": "kNN, histogram",
    "linear_untrained": "linear, untrained",
    "linear_colour": "linear, colour",
    "linear_histogram": "linear, histogram",
    **{
        f"{name}_{end}": f"{title}, {baseline}"
        for name, title in (("token_nuclei", "nuclei, tokens"), ("token_types", "types, tokens"))
        for end, baseline in (("untrained", "untrained"), ("colour", "colours, 3 × 3"))
    },
    "seconds": "seconds",
}
# Measures whose differences between arms are taken.
COMPARED = (PRIMARY, "entropy_tissue", "entropy_training", "head_diversity", "entropy_per_head", "gini",
            "effective_tokens", "components50", "enrichment_nuclei", "enrichment_rest", "enrichment_glass",
            "rank_held_out", "knn", "linear", "few_shot",
            "knn_tokens", "linear_tokens", "few_shot_tokens",
            "token_nuclei", "token_types",
            *(f"drift_{kind}" for kind in RobustConfig().damage))  # fmt: skip
# Measures of which more is better, and of which a study can show that none is lost.
KEPT = ("rank_held_out", "knn", "linear", "few_shot", "knn_tokens", "linear_tokens", "few_shot_tokens",
        "token_nuclei", "token_types")  # fmt: skip
