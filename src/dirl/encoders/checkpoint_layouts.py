"""Finding the encoder in a checkpoint: its prefix, and the other weights of the file.

Tools save an encoder inside wrappers, together with a second encoder, heads and decoders. The encoder is
found by names: the names of the model's weights after one common prefix.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dirl.core.errors import EncoderError
from dirl.core.progress import say
from dirl.encoders.adapt import KERNEL, Fitted
from dirl.encoders.weights import check_plain

# Parts of names that torch's wrappers add.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
# The moving average comes first, since most methods evaluate it; then the trained encoder. For MoCo and
# lightly the trained one comes first, since their authors evaluate it.
AVERAGED, TRAINED, KEYS = ("teacher", "ema", "target"), ("student", "online"), ("momentum", "k", "key")
DIRL_RUN = "state_dict.encoder.vit"
"""Prefix in the last.ckpt of a dirl run, whose result is the student, too."""
CHUNK = re.compile(r"(?:(.*)\.)?blocks\.(\d+)\.(\d+)\.(.*)")
# First parts of names of encoders. If such weights are left over, the architecture differs.
PARTS = frozenset(
    {
        *("patch_embed", "pos_embed", "cls_token", "reg_token", "register_tokens", "dist_token", "blocks"),
        *("norm", "norm_pre", "fc_norm", "attn_pool", "encoder", "embeddings", "layernorm"),
    }
)
REMEDY = "give the file of this model, or the options of the file's model"
SHOWN = 6
RESAMPLED = ("pos_embed", KERNEL)


@dataclass(frozen=True)
class Taken:
    """The encoder of a checkpoint, converted for the model.

    `prefix` is the prefix of its names in the file; `beside` are the prefixes of the other weights.
    """

    fitted: Fitted
    prefix: str
    beside: tuple[str, ...]

    def print_source(self, where: object) -> None:
        """Print the prefix, and what was resampled or left out, if there is anything of that."""
        resampled = [name for name in self.fitted.changed if name in RESAMPLED]
        if not (self.prefix or self.beside or resampled):
            return
        more = f", … ({len(self.beside)} in all)" if len(self.beside) > SHOWN else ""
        left = f"; left out: {', '.join(self.beside[:SHOWN])}{more}" if self.beside else ""
        grid = f"; resampled to this model's grid: {', '.join(resampled)}" if resampled else ""
        source = self.prefix or "the top level"
        say(f"{where}: weights from {source} ({len(self.fitted.state)}){grid}{left}")


def take_encoder(
    weights: Mapping[str, Tensor],
    names: Collection[str],
    fit: Callable[[dict[str, Tensor]], Fitted],
    where: object,
    *,
    heads: tuple[str, ...] = (),
    partial: bool = False,
) -> Taken:
    """Find the encoder among a file's weights; `where` is the file, for errors.

    It is an error if no prefix has the complete encoder, or several prefixes have different ones. `names` are
    the possible names of the encoder's weights after the prefix. `fit` converts weights with these names for
    the model, or raises an `EncoderError`. `heads` are prefixes of weights that are never part of the
    encoder. With `partial`, an encoder that lacks weights is taken if there is no complete one.
    """
    written = _unwrapped(weights)
    votes = _votes(written, names)
    most = max(votes.values(), default=0)
    order = sorted(
        (prefix for prefix in votes if 2 * votes[prefix] >= most),
        key=lambda prefix: (_rank(prefix), -votes[prefix], len(prefix), prefix),
    )
    # For names that timm or `fit` translates as a whole, such as CLIP's.
    tops = Counter(name.split(".")[0] for name in written)
    order += [top for top in ("", *(t for t, n in tops.items() if 2 * n >= len(names))) if top not in order]
    whole: dict[str, Fitted] = {}
    parts: dict[str, Fitted] = {}
    reasons: dict[str, str] = {}
    remedies: dict[str, str] = {}
    for prefix in order:
        if whole and (prefix not in votes or _rank(prefix) > min(map(_rank, whole))):
            break
        found = {name: weights[original] for name, original in _under(written, prefix).items()}
        try:
            check_plain({name: v for name, v in found.items() if _of_an_encoder(name, names, heads)}, where)
            fitted = fit(found)
        except EncoderError as error:
            reasons[prefix], remedies[prefix] = error.reason, error.remedy
            continue
        unplaced = [] if partial else [n for n in fitted.unexpected if _of_an_encoder(n, names, heads)]
        if fitted.missing or unplaced:
            first = [*fitted.missing, *unplaced][0]
            counts = f"{len(fitted.missing)} weights missing, {len(unplaced)} unknown"
            parts[prefix], reasons[prefix] = fitted, f"{counts} (such as {first})"
        else:
            whole[prefix] = fitted
    if not whole and partial and parts:
        least = min(parts, key=lambda prefix: (_rank(prefix), len(parts[prefix].missing)))
        whole = {least: parts[least]}
    if not whole:
        best = max(order, key=lambda prefix: votes[prefix])
        if votes:
            place = f"under {_as_written(written, best)!r}, " if best else ""
        else:
            first = next(iter(weights))
            place = f"none of its {len(weights)} weights, such as {first}, has a name of the model; "
        reason = f"does not fit the model: {place}{reasons[best]}"
        raise EncoderError(reason, where=where, remedy=remedies.get(best) or REMEDY)
    (prefix, fitted), *others = whole.items()
    if other := [name for name, each in others if not _same(fitted, each)]:
        both = " and ".join(_as_written(written, name) or "the top level" for name in (prefix, *other))
        remedy = "save only the encoder that you mean, with torch.save"
        raise EncoderError(f"contains several encoders of this model: {both}", where=where, remedy=remedy)
    return Taken(fitted, _as_written(written, prefix), _beside(written, prefix, names))


def _unwrapped(weights: Collection[str]) -> dict[str, str]:
    """Map names without wrappers and without DINOv2's chunks of blocks to the names in the file."""
    short = {each: ".".join(part for part in each.split(".") if part not in WRAPPERS) for each in weights}
    times = Counter(short.values())
    # If two names would become equal, both stay as they are: they are from two encoders.
    plain = {name if times[name] == 1 else written: written for written, name in short.items()}
    numbers: dict[str, list[tuple[int, int]]] = {}
    found = {name: match for name in plain if (match := CHUNK.fullmatch(name))}
    for match in found.values():
        numbers.setdefault(match[1] or "", []).append((int(match[2]), int(match[3])))
    places = {ahead: _places(sorted(set(pairs))) for ahead, pairs in numbers.items()}
    return {_without_chunk(name, found.get(name), places): written for name, written in plain.items()}


def _places(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Number of each block. If the numbers start again in each chunk, the blocks are counted."""
    within = [block for _, block in pairs]
    return dict(zip(pairs, within if len(set(within)) == len(within) else range(len(pairs)), strict=True))


def _without_chunk(
    name: str, match: re.Match[str] | None, places: Mapping[str, Mapping[tuple[int, int], int]]
) -> str:
    if match is None:
        return name
    ahead = match[1] or ""
    number = places[ahead][int(match[2]), int(match[3])]
    return f"{ahead}{'.' * bool(ahead)}blocks.{number}.{match[4]}"


def _votes(written: Collection[str], names: Collection[str]) -> Counter[str]:
    """Count the names of the model after each prefix."""
    own, votes = set(names), Counter[str]()
    for name in written:
        parts = name.split(".")
        votes.update(".".join(parts[:i]) for i in range(len(parts)) if ".".join(parts[i:]) in own)
    return votes


def _rank(prefix: str) -> int:
    if prefix == DIRL_RUN:
        return -1
    words = {word.lower() for word in re.split(r"[._]|(?<=[a-z])(?=[A-Z])", prefix)}
    return next((rank for rank, kind in ((0, AVERAGED), (2, TRAINED), (3, KEYS)) if words & set(kind)), 1)


def _under(written: Mapping[str, str], prefix: str) -> dict[str, str]:
    ahead = f"{prefix}." if prefix else ""
    return {name[len(ahead) :]: each for name, each in written.items() if name.startswith(ahead)}


def _of_an_encoder(name: str, names: Collection[str], heads: tuple[str, ...]) -> bool:
    return not name.startswith(heads) and name.split(".")[0] in _first_parts(names)


def _first_parts(names: Collection[str]) -> set[str]:
    return {*PARTS, *(name.split(".")[0] for name in names)}


def _as_written(written: Mapping[str, str], prefix: str) -> str:
    """Return a prefix as it is written in the file."""
    ahead = f"{prefix}." if prefix else ""
    behind = [(name, each) for name, each in written.items() if name.startswith(ahead)]
    if any(name == each for name, each in behind):
        return prefix
    return _lead(behind[0][1], len(prefix.split(".")) if prefix else 0)


def _lead(written: str, count: int) -> str:
    """Return the first `count` parts of a name, not counting wrappers, and the wrappers after them."""
    kept = []
    for part in written.split("."):
        if part not in WRAPPERS:
            count -= 1
        if count < 0:
            break
        kept.append(part)
    return ".".join(kept)


def _beside(written: Mapping[str, str], prefix: str, names: Collection[str]) -> tuple[str, ...]:
    """Prefixes of the weights that are not the encoder's, one part longer than the common prefix."""
    own = prefix.split(".") if prefix else []
    found: dict[str, None] = {}
    for name, each in written.items():
        parts = name.split(".")
        shared = next((i for i, part in enumerate(own) if parts[i : i + 1] != [part]), len(own))
        if shared < len(own) or parts[shared] not in _first_parts(names):
            found[_lead(each, shared + 1)] = None
    return tuple(found)


def _same(one: Fitted, other: Fitted) -> bool:
    shared = one.state.keys() & other.state.keys()
    return all(torch.equal(one.state[name], other.state[name]) for name in shared)
