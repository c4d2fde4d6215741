"""The verdict and the leaderboard of an audit: about these encoders on these tiles, never about a method."""

from dirl.audit.findings import PRIMARY, Audited, Difference, Findings, GateState
from dirl.audit.summary import LeaderboardLine, Standing, Verdict
from dirl.core.intervals import Estimate
from dirl.prior.coverage import COARSE_UM

NEARLY_UNIFORM = 0.99  # of the joint map: nine tenths of its tokens in effect


def word_verdict(found: Findings) -> Verdict:
    """Word the verdict of an audit."""
    encoders = [one for one in found.encoders if one.kind == "encoder"]
    failed, differences = found.failed, found.differences
    by_name = {one.name: one for one in encoders}
    fail = f"{_and(list(failed))} {'do' if len(failed) > 1 else 'does'} not pass the gate" if failed else ""
    comparable = [pair for pair in differences if _comparable(pair, found)]
    if comparable:
        sentences = [_difference(pair, found) for pair in comparable]
        headline = " ".join([*sentences, *([f"No evidence of the others: {fail}."] if failed else [])])
        evidence = any(excludes_zero(pair.primary) for pair in comparable)
    elif failed and all(gate.state == "not measured" for gate in failed.values()):
        reason = next(iter(failed.values())).reasons[0]
        headline, evidence = f"No evidence: the gate is not measured ({reason}).", False
    elif failed:
        why = "Attention means nothing if nothing shows that the encoder has learned."
        headline, evidence = f"No evidence: {fail}. {why}", False
    else:
        headline, evidence = _one(encoders[0], found), not differences
    notes = [f"{name}: {'; '.join(gate.reasons)}." for name, gate in failed.items()]
    notes += [note for one in encoders if one.name not in failed for note in _of_encoder(one)]
    notes += [f"{one.name}: {text}." for one in encoders for text in one.notes]
    for pair in differences:
        if not failed.keys() & {pair.reference, pair.encoder}:
            notes += _of_pair(pair, by_name[pair.reference], by_name[pair.encoder])
    return Verdict(evidence=evidence, headline=headline, notes=(*notes, *_always(found)))


def leaderboard(found: Findings) -> list[LeaderboardLine]:
    """Rank the encoders by the primary measure of the joint map in the last block.

    An encoder has a rank only if it passes the gate and is audited by the same query as the first. Otherwise
    its evenness means nothing: an untrained encoder is nearly uniform, and a mean of rows is more even than
    each row. The others follow, then the controls.
    """
    first = found.encoders[0]
    pairs = {pair.encoder: pair for pair in found.differences}
    ranked: list[tuple[Audited, Standing]] = []
    others: list[tuple[Audited, Standing]] = []
    for one in found.encoders:
        gate = found.gates.get(one.name)
        comparable = gate is not None and gate.passed and one.query == first.query
        (ranked if comparable else others).append((one, _standing(one, first, pairs.get(one.name), found)))
    ranked.sort(key=lambda each: -(each[0].primary.value or 0))
    places: list[tuple[int | None, tuple[Audited, Standing]]] = [
        *enumerate(ranked, 1),
        *((None, each) for each in others),
    ]
    return [
        LeaderboardLine(rank=rank, encoder=one.name, gate=_gate(one, found), verdict=verdict)
        for rank, (one, verdict) in places
    ]


def _gate(one: Audited, found: Findings) -> GateState | None:
    gate = found.gates.get(one.name)
    return None if gate is None else gate.state


def _standing(one: Audited, first: Audited, pair: Difference | None, found: Findings) -> Standing:
    if one.kind != "encoder":
        return "control"
    if one.name in found.failed:
        return "gate not measured" if found.gates[one.name].state == "not measured" else "gate failed"
    if pair is None:
        return "reference"
    if one.query != first.query:
        return "other query"
    if first.name in found.failed:
        return "reference failed"
    if not excludes_zero(pair.primary):
        return "no difference seen"
    return "more even" if (pair.primary.value or 0) > 0 else "less even"


def _comparable(pair: Difference, found: Findings) -> bool:
    """Whether both encoders of a pair pass the gate, and are audited by the same query."""
    names = (pair.reference, pair.encoder)
    return not found.failed.keys() & set(names) and len({found.by_name[name].query for name in names}) == 1


def _difference(pair: Difference, found: Findings) -> str:
    a, b = pair.reference, pair.encoder
    old, new = (_plain(found.by_name[name].primary) for name in (a, b))
    numbers = f"{old} → {new}, difference {_with_interval(pair.primary)}"
    if not excludes_zero(pair.primary):
        return (
            f"No evidence that on these {found.tiles} tiles the joint map of {b} is spread otherwise than "
            f"that of {a}: normalised entropy {numbers}."
        )
    word = "more" if (pair.primary.value or 0) > 0 else "less"
    return (
        f"On these {found.tiles} tiles the joint map of {b} is spread {word} evenly than that of {a}: "
        f"normalised entropy {numbers}."
    )


def _one(encoder: Audited, found: Findings) -> str:
    control = next((one for one in found.encoders if one.name == encoder.control), None)
    text = (
        f"On these {found.tiles} tiles the joint map of {encoder.name} has a normalised entropy of "
        f"{_plain(encoder.primary)}, as if spread evenly over "
        f"{encoder.last_block.joint['effective_share'].value:.0%} of the tokens"
    )
    if control is not None:
        text += f"; untrained, the same architecture has {_plain(control.primary)}"
    return text + "."


def _of_encoder(encoder: Audited) -> list[str]:
    name, entropy = encoder.name, encoder.primary.value or 0
    mass = encoder.last_block.joint["patch_mass"].value or 0
    notes = []
    if entropy > NEARLY_UNIFORM:
        notes.append(
            f"{name} attends nearly uniformly (entropy {entropy:.3f} > {NEARLY_UNIFORM}): every measure of "
            "spread is close to perfect there and says little. Look into it."
        )
    if mass < 0.5:
        notes.append(
            f"Only {mass:.0%} of {name}'s attention falls on patches; the rest falls on [CLS] and the "
            "registers. All other measures describe the part on patches alone."
        )
    if encoder.token_um > COARSE_UM:
        contrast = encoder.prior_contrast
        notes.append(
            f"{name}'s tokens of {encoder.token_um:.1f} µm are wider than a nucleus"
            + (f" (prior contrast {contrast:.2f})" if contrast is not None else "")
            + ": its attention can hardly tell nuclei from the rest."
        )
    return notes


def _of_pair(pair: Difference, first: Audited, second: Audited) -> list[str]:
    a, b = pair.reference, pair.encoder
    per_head, joint = pair.per_head[PRIMARY], pair.primary
    notes = []
    if first.query != second.query:
        notes.append(
            f"{a} is audited by its {first.query} query and {b} by its {second.query} query: their spread "
            "is that of different things and should not be compared."
        )
    if excludes_zero(per_head) and not (
        excludes_zero(joint) and (per_head.value or 0) * (joint.value or 0) > 0
    ):
        apart = (pair.joint["head_diversity"].value or 0) > 0
        notes.append(
            f"Per head, {b} minus {a} is {_with_interval(per_head)}. The joint map does not show it: the "
            f"heads of {b} are {'less' if apart else 'more'} alike."
        )
    if excludes_zero(joint) and pair.temperature is not None:
        notes.append(
            f"Without any training, a temperature of {pair.temperature:.2f} in the last softmax of {a} gives "
            f"its joint map the entropy of {b}'s."
        )
    for region in ("nuclei", "glass"):
        change = pair.enrichment.joint[region]
        if excludes_zero(change):
            away = (change.value or 0) < 0
            warning = ": spread attention is not balanced attention" if away and region == "nuclei" else ""
            way = f"{'away from' if away else 'towards'} {region}"
            notes.append(
                f"From {a} to {b} attention moved {way}, log2 enrichment {_with_interval(change)}{warning}."
            )
    return notes


def _always(found: Findings) -> list[str]:
    notes = []
    if found.slides is None:
        notes.append(
            "It is not known which slides these ready-made tiles come from. So intervals are over tiles, as "
            "if these were independent, and are too narrow."
        )
    elif found.interval.over == "tiles":
        slides = f"{found.slides} slide{'s' if found.slides != 1 else ''}"
        notes.append(
            f"The tiles come from {slides}: intervals are over tiles and do not apply to other slides."
        )
    notes.append(
        "Spread is not quality: no downstream score is measured here. An encoder is better only if its "
        "attention spreads and such a score does not fall."
    )
    if len(found.gates) > 1:
        notes.append(
            "This compares single checkpoints. A claim about a training method needs several seeds of each."
        )
    return notes


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def excludes_zero(value: Estimate) -> bool:
    """Whether an interval lies on one side of 0."""
    return value.low is not None and value.high is not None and (value.low > 0 or value.high < 0)


def _plain(value: Estimate) -> str:
    return "–" if value.value is None else f"{value.value:.3f}"


def _with_interval(value: Estimate) -> str:
    return value.text("+.3f", before="95 % interval ", between=" to ").replace("-", "−")
