"""Damage of a file, drawn from a seed: of its bytes, of its text, or of what stands in its place."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK = 512
HUGE = [10**12, -(10**12), 10**400, 1e308, -1, 0, 2**31, 2**63, float("nan"), float("inf")]
ODD = [None, True, "", "x", "\ud800", "../../x", "/x", "a\0b", "n" * 300, [], {}, [[[1]]], {"x": {"x": 1}}]
LINES = ["\0", '"', '"a\nb', ",,,,", "é" * 50, "9" * 5000, "nan", "-1", "1e999", "x" * 200_000]

Damage = Callable[[bytes, random.Random], bytes]


def bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def head_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip bits of the beginning or the end, where most formats keep what they are made of."""
    size = min(len(data), 256)
    return (
        bits(data[:size], rng) + data[size:] if rng.random() < 0.5 else data[:-size] + bits(data[-size:], rng)
    )


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start, length = _run(data, rng)
    return data[:start] + bytes(length) + data[start + length :]


def noise(data: bytes, rng: random.Random) -> bytes:
    start, length = _run(data, rng)
    return data[:start] + rng.randbytes(length) + data[start + length :]


def removed(data: bytes, rng: random.Random) -> bytes:
    start, length = _run(data, rng)
    return data[:start] + data[start + length :]


def doubled(data: bytes, rng: random.Random) -> bytes:
    start, length = _run(data, rng)
    return data[: start + length] + data[start:]


def appended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 2 * BLOCK))


def random_bytes(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 2 * BLOCK))


def huge_number(data: bytes, rng: random.Random) -> bytes:
    """Let four or eight bytes be the largest number, or one that is no count."""
    value = rng.choice([b"\xff" * 8, b"\xff" * 4, b"\0\0\0\x7f", b"\0\0\0\0\1\0\0\0", b"\0" * 4])
    at = rng.randrange(max(1, len(data) - 8))
    return data[:at] + value + data[at + len(value) :]


def json_edit(data: bytes, rng: random.Random) -> bytes:
    """Change, remove, double or nest one value of a JSON file."""
    content = json.loads(data)
    places = list(_places(content))
    holder, key = rng.choice(places)
    kind = rng.choice(["remove", "odd", "huge", "deep", "swap", "rename", "double"])
    if kind == "remove":
        del holder[key]
    elif kind == "swap":
        other, there = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[there])) if isinstance(there, type(key)) else None
    elif kind == "rename" and isinstance(holder, dict):
        holder[rng.choice([f"{key}x", "", "../x", "\ud800"])] = holder.pop(key)
    elif kind == "double" and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind == "deep":
        holder[key] = "DEEP"
        depth = rng.choice([50, 100_000])
        opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
        text = json.dumps(content)
        return text.replace('"DEEP"', opened * depth + "1" + closed * depth).encode()
    else:
        holder[key] = rng.choice(HUGE if kind == "huge" else ODD)
    return json.dumps(content).encode()


def line_edit(data: bytes, rng: random.Random) -> bytes:
    """Change, remove, double or swap a line, or a cell of it, of a text."""
    lines = data.decode().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.choice(["remove", "double", "swap", "cell", "less", "more"])
    cells = lines[at].rstrip("\n").split(",")
    if kind == "remove":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "cell":
        cells[rng.randrange(len(cells))] = rng.choice(LINES)
    elif kind == "less":
        del cells[rng.randrange(len(cells))]
    else:
        cells.insert(rng.randrange(len(cells)), rng.choice(LINES))
    if kind in ("cell", "less", "more"):
        lines[at] = ",".join(cells) + "\n"
    return "".join(lines).encode("utf-8", "surrogatepass")


BYTES: tuple[Damage, ...] = (
    *(bits, bits, head_bits, truncated, zeroed, noise, removed, doubled, appended, random_bytes, huge_number),
)
TEXT: dict[str, Damage] = {"json": json_edit, "lines": line_edit}


def place(path: Path, data: bytes, text: str, rng: random.Random) -> str:
    """Put a damaged file, or something else, at `path`, and return what was done."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    drawn = rng.random()
    if drawn < 0.02:
        path.mkdir()
        return "folder"
    if drawn < 0.04:
        os.mkfifo(path)
        return "pipe"
    if drawn < 0.06:
        path.symlink_to(path)
        return "loop"
    if drawn < 0.08:
        path.write_bytes(b"")
        return "empty"
    how = TEXT[text] if text and rng.random() < 0.6 else rng.choice(BYTES)
    path.write_bytes(how(data, rng))  # a new file: the old one may be mapped into memory
    return how.__name__


def _run(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(rng.choice([1, 4, 16, 64, BLOCK, len(data) // 4 + 1]), len(data) - start)


def _places(content: object) -> list[tuple[Any, Any]]:
    """Lists and objects of JSON, however deep, each with one of its indices or keys."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [content]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found
