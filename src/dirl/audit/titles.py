"""Titles of the measures. Without torch, so that pages and tables start at once."""

# By column.
TITLES = {
    "entropy": "normalised entropy",
    "effective_share": "effective tokens, share",
    "effective_tokens": "effective tokens",
    "participation": "participation",
    "gini": "Gini",
    "hoyer": "Hoyer",
    "top1_mass": "top 1 % mass",
    "top5_mass": "top 5 % mass",
    "top10_mass": "top 10 % mass",
    "tokens60": "tokens for 60 % of the mass",
    "tokens90": "tokens for 90 % of the mass",
    "components50": "nuclei with ≥ ½ of uniform",
    "components25": "nuclei with ≥ ¼ of uniform",
    "components100": "nuclei with ≥ uniform",
    "head_diversity": "head diversity (nats)",
    "patch_mass": "patch mass",
    "cls_mass": "mass on [CLS]",
    "register_mass": "mass on registers",
    "outliers": "outlier tokens",
    "attention_distance": "attention distance (µm)",
    "sink_ratio": "sink ratio",
    "rollout_entropy": "normalised entropy of the rollout",
}
PRIMARY = "entropy"
