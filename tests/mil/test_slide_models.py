"""Each slide model equals its formulas written out in NumPy, and takes bags of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from dirl.evaluate.mil.clam import smooth_svm
from dirl.evaluate.mil.models import MODELS
from dirl.evaluate.mil.transmil import HEADS, NystromAttention, Places, pseudo_inverse

WIDTH, INPUTS = 8, 5


def made(name, outputs=3, width=WIDTH):
    torch.manual_seed(0)
    return MODELS[name](INPUTS, outputs, width).double()


def bag(count, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, INPUTS)))


def weights(module):
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def gated(w, hidden):
    open_ = expit(linear(w, "attend.gate", hidden))
    return softmax(linear(w, "attend.weight", np.tanh(linear(w, "attend.tanh", hidden)) * open_)[:, 0])


def norm(w, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


@pytest.mark.parametrize("name", MODELS)
@given(count=st.integers(1, 70))
@settings(max_examples=15, deadline=None)
def test_bags_of_any_size(name, count):
    model = made(name)
    pooled = model(bag(count), label=1)
    assert pooled.streams.shape[1:] == (3,) and pooled.attention.shape == (count,)
    assert pooled.attention.min() >= 0 and pooled.attention.sum().item() == pytest.approx(1)
    (pooled.streams.sum() + pooled.auxiliary).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["mean", "abmil", "clam", "dsmil"])
def test_the_order_of_tiles_means_nothing(name):
    model, tiles, order = made(name), bag(20), torch.randperm(20)
    one, other = model(tiles, label=2), model(tiles[order], label=2)
    assert torch.allclose(one.streams, other.streams)
    assert torch.allclose(one.attention[order], other.attention)
    assert torch.allclose(one.auxiliary, other.auxiliary)


def test_mean_pooling():
    model, tiles = made("mean"), bag(7)
    pooled = model(tiles)
    expected = linear(weights(model), "head", tiles.numpy().mean(axis=0))
    assert np.allclose(pooled.streams.detach()[0], expected)
    assert np.allclose(pooled.attention, 1 / 7)


def test_abmil():
    model, tiles = made("abmil"), bag(9)
    w, pooled = weights(model), model(tiles)
    hidden = np.maximum(linear(w, "embed.0", tiles.numpy()), 0)
    attention = gated(w, hidden)
    assert np.allclose(pooled.attention.detach(), attention)
    assert np.allclose(pooled.streams.detach()[0], linear(w, "head", attention @ hidden))
    assert pooled.auxiliary == 0


@pytest.mark.parametrize("count", [30, 3])
def test_clam_is_abmil_with_a_task_for_tiles(count):
    model, tiles = made("clam"), bag(count)
    w, pooled = weights(model), model(tiles, label=1)
    hidden = np.maximum(linear(w, "embed.0", tiles.numpy()), 0)
    attention = gated(w, hidden)
    assert np.allclose(pooled.streams.detach()[0], linear(w, "head", attention @ hidden))
    order, k = np.argsort(attention), min(8, count)

    def svm(scores, label):  # log of the sum over classes of exp(score + 1 if wrong), less the true score
        wrong = np.arange(2) != label
        return np.log(np.exp(scores + wrong).sum(axis=1)) - scores[:, label]

    yes, no = hidden[order[-k:]], hidden[order[:k]]
    expected = 0.0
    for c in range(3):
        head = f"tile_heads.{c}"
        if c == 1:
            both = [svm(linear(w, head, yes), 1), svm(linear(w, head, no), 0)]
            expected += np.concatenate(both).mean()
        else:
            expected += svm(linear(w, head, yes), 0).mean()
    assert pooled.auxiliary.item() == pytest.approx(expected * 0.3 / 0.7)
    assert model(tiles).auxiliary == 0


def test_the_smooth_svm_has_a_margin():
    scores = torch.tensor([[50.0, 0], [0.5, 0]])
    loss = smooth_svm(scores, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(np.log1p(np.exp(0.5)) / 2, abs=1e-6)


def test_dsmil():
    model, tiles = made("dsmil"), bag(11)
    w, pooled, x = weights(model), model(tiles), tiles.numpy()
    scores = linear(w, "tile_head", x)
    queries = np.tanh(linear(w, "query.2", np.maximum(linear(w, "query.0", x), 0)))
    values = linear(w, "value", x)
    attention, bags = [], []
    for c in range(3):
        critical = queries[scores[:, c].argmax()]
        attention.append(softmax(queries @ critical / np.sqrt(WIDTH)))
        bags.append(attention[-1] @ values)
    streams = np.stack([linear(w, "head", np.concatenate(bags)), scores.max(axis=0)])
    assert np.allclose(pooled.streams.detach(), streams)
    assert np.allclose(pooled.attention.detach(), attention[streams.mean(axis=0).argmax()])


def nystrom(w, x, landmarks, prefix=""):
    """Attention by the formulas, with NumPy's own pseudo-inverse, and segments cut by hand."""
    q, k, v = np.split(norm(w, f"{prefix}norm", x) @ w[f"{prefix}qkv.weight"].T, 3, axis=1)
    out, size = [], x.shape[1] // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        qh, kh, vh = q[:, part], k[:, part], v[:, part]
        if len(x) <= landmarks:
            mixed = softmax(qh @ kh.T / np.sqrt(size), axis=1) @ vh
        else:
            ql, kl = (np.stack([s.mean(axis=0) for s in np.split(each, landmarks)]) for each in (qh, kh))
            a, b, c = (softmax(m / np.sqrt(size), axis=1) for m in (qh @ kl.T, ql @ kl.T, ql @ kh.T))
            mixed = a @ np.linalg.pinv(b) @ c @ vh
        padded = np.pad(vh, ((16, 16), (0, 0)))
        kernel = w[f"{prefix}smooth.weight"][head, 0]
        out.append(mixed + np.stack([kernel @ padded[i : i + 33] for i in range(len(x))]))
    return linear(w, f"{prefix}out", np.concatenate(out, axis=1))


def test_nystrom_attention(monkeypatch):
    torch.manual_seed(1)
    layer = NystromAttention(WIDTH, landmarks=4).double()
    x = np.random.default_rng(3).normal(size=(24, WIDTH))
    monkeypatch.setattr(
        "dirl.evaluate.mil.transmil.pseudo_inverse", lambda matrices: pseudo_inverse(matrices, steps=40)
    )
    assert np.allclose(layer(torch.from_numpy(x)).detach(), nystrom(weights(layer), x, 4), atol=1e-6)


def test_the_pseudo_inverse_comes_near_in_six_steps():
    matrices = softmax(np.random.default_rng(0).normal(size=(2, 6, 6)) * 2, axis=-1)
    found = pseudo_inverse(torch.from_numpy(matrices), steps=40).numpy()
    assert np.allclose(found, np.linalg.pinv(matrices), atol=1e-6)


def test_places_are_convolutions_over_the_square():
    torch.manual_seed(0)
    layer = Places(3).double()
    x = np.random.default_rng(0).normal(size=(1 + 16, 3))
    w, square = weights(layer), x[1:].reshape(4, 4, 3)
    expected = square.copy()
    for number, size in enumerate((7, 5, 3)):
        half = size // 2
        padded = np.pad(square, ((half, half), (half, half), (0, 0)))
        for i in range(4):
            for j in range(4):
                window = padded[i : i + size, j : j + size]
                kernel = w[f"sizes.{number}.weight"][:, 0].transpose(1, 2, 0)
                expected[i, j] += (window * kernel).sum(axis=(0, 1)) + w[f"sizes.{number}.bias"]
    found = layer(torch.from_numpy(x), 4).detach().numpy()
    assert np.allclose(found[1:], expected.reshape(16, 3)) and np.allclose(found[0], x[0])


def test_transmil_as_a_whole():
    # Seven tiles fill a square of nine with the first two once more; with no landmarks to spare, attention is
    # exact (4 landmarks at width 8, so a width of 32 is needed for ten tokens).
    model, tiles = made("transmil", width=32), bag(7)
    w, pooled = weights(model), model(tiles)
    hidden = np.maximum(linear(w, "embed.0", tiles.numpy()), 0)
    tokens = np.concatenate([w["class_token"], hidden, hidden[:2]])
    tokens = tokens + nystrom(w, tokens, 16, "mix.")
    tokens = model.place(torch.from_numpy(tokens), 3).detach().numpy()
    normed = norm(w, "attend.norm", tokens)
    query = linear(w, "attend.query", normed[:1])
    key, value = np.split(linear(w, "attend.key_value", normed), 2, axis=1)
    rows, out = [], []
    for head in range(HEADS):
        part = slice(8 * head, 8 * head + 8)
        rows.append(softmax(query[0, part] @ key[:, part].T / np.sqrt(8)))
        out.append(rows[-1] @ value[:, part])
    token = tokens[0] + linear(w, "attend.out", np.concatenate(out))
    assert np.allclose(pooled.streams.detach()[0], linear(w, "head", norm(w, "norm", token)))
    row = np.mean(rows, axis=0)[1:]
    row[:2] += row[7:]
    assert np.allclose(pooled.attention.detach(), row[:7] / row[:7].sum())
