"""What an audit allows to be said: about these encoders on these tiles, never about a method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dirl.audit.titles import PRIMARY

NEARLY_UNIFORM = 0.97
COARSE_UM = 8.0


@dataclass(frozen=True)
class Verdict:
    """A sentence and what qualifies it.

    Attributes
    ----------
    evidence
        Whether a difference was seen between encoders that pass the gate. With one encoder: whether it does.
    headline
        One or two sentences.
    notes
        What a reader must know beside it, the most serious first.
    """

    evidence: bool
    headline: str
    notes: tuple[str, ...]


def judge(summary: Mapping[str, Any]) -> Verdict:
    """Word the verdict of a summary (see `dirl.audit.run`)."""
    encoders = [one for one in summary["encoders"] if one["kind"] == "encoder"]
    failed = {name: gate for name, gate in summary["gates"].items() if not gate["passed"]}
    differences = summary["differences"]
    by_name = {one["name"]: one for one in encoders}
    fail = f"{_and(list(failed))} {'do' if len(failed) > 1 else 'does'} not pass the gate" if failed else ""
    comparable = [pair for pair in differences if _comparable(pair, by_name, failed)]
    if comparable:
        sentences = [_difference(pair, by_name, summary["tiles"]) for pair in comparable]
        headline = " ".join([*sentences, *([f"No evidence of the others: {fail}."] if failed else [])])
        evidence = any(excludes_zero(pair["per_head"][PRIMARY]) for pair in comparable)
    elif failed:
        why = "Attention means nothing where nothing shows that the encoder has learned."
        headline, evidence = f"No evidence: {fail}. {why}", False
    else:
        headline, evidence = _one(encoders[0], summary), not differences
    notes = [f"{name}: {'; '.join(gate['reasons'])}." for name, gate in failed.items()]
    notes += [note for one in encoders if one["name"] not in failed for note in _of_encoder(one)]
    notes += [f"{one['name']}: {text}." for one in encoders for text in one["notes"]]
    for pair in differences:
        if not failed.keys() & {pair["reference"], pair["encoder"]}:
            notes += _of_pair(pair, by_name)
    return Verdict(evidence, headline, (*notes, *_always(summary)))


def _comparable(pair: Mapping[str, Any], by_name: Mapping[str, Any], failed: Mapping[str, Any]) -> bool:
    """Whether both encoders of a pair pass the gate, and are audited by the same query."""
    names = (pair["reference"], pair["encoder"])
    return not failed.keys() & set(names) and len({by_name[name]["query"] for name in names}) == 1


def _difference(pair: Mapping[str, Any], by_name: Mapping[str, Any], tiles: int) -> str:
    a, b = pair["reference"], pair["encoder"]
    old, new = (by_name[name]["last_block"]["per_head"][PRIMARY]["value"] for name in (a, b))
    difference = pair["per_head"][PRIMARY]
    numbers = f"{old:.3f} → {new:.3f}, difference {_with_interval(difference)}"
    if not excludes_zero(difference):
        return (
            f"No evidence that on these {tiles} tiles the attention of {b} is spread otherwise than that of "
            f"{a}: normalised entropy {numbers}."
        )
    word = "more" if difference["value"] > 0 else "less"
    return (
        f"On these {tiles} tiles the attention of {b} is spread {word} evenly than that of {a}: "
        f"normalised entropy {numbers}."
    )


def _one(encoder: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    last = encoder["last_block"]["per_head"]
    control = next((o for o in summary["encoders"] if o["name"] == encoder["control"]), None)
    text = (
        f"On these {summary['tiles']} tiles the attention of {encoder['name']} has a normalised entropy of "
        f"{_plain(last[PRIMARY])}, as if spread evenly over {last['effective_share']['value']:.0%} "
        "of the tokens"
    )
    if control is not None:
        text += f"; untrained, the same architecture has {_plain(control['last_block']['per_head'][PRIMARY])}"
    return text + "."


def _of_encoder(encoder: Mapping[str, Any]) -> list[str]:
    name, last = encoder["name"], encoder["last_block"]["per_head"]
    notes = []
    if (last[PRIMARY]["value"] or 0) > NEARLY_UNIFORM:
        notes.append(
            f"{name} attends nearly uniformly (entropy {last[PRIMARY]['value']:.3f} > {NEARLY_UNIFORM}): "
            "every measure of spread is close to perfect there and says little. Look into it."
        )
    if (last["patch_mass"]["value"] or 0) < 0.5:
        notes.append(
            f"Only {last['patch_mass']['value']:.0%} of {name}'s attention falls on patches; the rest "
            "stays on [CLS] and the registers. All other measures describe that part alone."
        )
    if encoder["token_um"] > COARSE_UM:
        contrast = encoder["prior_contrast"]
        notes.append(
            f"{name}'s tokens of {encoder['token_um']:.1f} µm are wider than a nucleus"
            + (f" (prior contrast {contrast:.2f})" if contrast is not None else "")
            + ": its attention can hardly tell nuclei from the rest."
        )
    return notes


def _of_pair(pair: Mapping[str, Any], by_name: Mapping[str, Any]) -> list[str]:
    a, b = pair["reference"], pair["encoder"]
    per_head, averaged = pair["per_head"][PRIMARY], pair["heads_averaged"][PRIMARY]
    notes = []
    queries = [by_name[one]["query"] for one in (a, b)]
    if queries[0] != queries[1]:
        notes.append(
            f"{a} is audited by its {queries[0]} query and {b} by its {queries[1]} query: their spread is "
            "that of different things and should not be compared."
        )
    if excludes_zero(per_head) and not (
        excludes_zero(averaged) and per_head["value"] * averaged["value"] > 0
    ):
        notes.append(
            f"With the heads averaged first, {b} minus {a} is {_with_interval(averaged)}: the difference "
            "lies in the single heads and not in where they look together."
        )
    moved = {"nuclei": ("away from nuclei", "towards nuclei"), "glass": ("away from glass", "towards glass")}
    for region, (less, more) in moved.items():
        change = pair["enrichment"]["per_head"][region]
        if excludes_zero(change):
            way = more if change["value"] > 0 else less
            warning = ": spread attention is not balanced attention" if way == "away from nuclei" else ""
            notes.append(
                f"From {a} to {b} attention moved {way}, log2 enrichment {_with_interval(change)}{warning}."
            )
    return notes


def _always(summary: Mapping[str, Any]) -> list[str]:
    notes = []
    if summary["slides"] is None:
        notes.append(
            "Nobody knows which slides these ready-made tiles come from: intervals are over tiles, which are "
            "taken for independent, and so are too narrow."
        )
    elif summary["interval"]["over"] == "tiles":
        slides = f"{summary['slides']} slide{'s' if summary['slides'] != 1 else ''}"
        notes.append(
            f"The tiles come from {slides}: intervals are over tiles and do not speak of other slides."
        )
    notes.append(
        "Spread is not quality: no downstream score is measured here. An encoder is better only if its "
        "attention spreads and such a score does not fall."
    )
    if len(summary["gates"]) > 1:
        notes.append(
            "This compares single checkpoints. A claim about a training method needs several seeds of each."
        )
    return notes


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def excludes_zero(value: Mapping[str, float | None]) -> bool:
    """Whether an interval lies on one side of 0."""
    low, high = value["low"], value["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def _plain(value: Mapping[str, float | None]) -> str:
    return "–" if value["value"] is None else f"{value['value']:.3f}"


def _with_interval(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "–"
    text = f"{value['value']:+.3f} (95 % interval {value['low']:+.3f} to {value['high']:+.3f})"
    return text.replace("-", "−")
