"""Reports: one HTML file that holds everything and needs no network."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dirl.core.card import Card
from dirl.core.intervals import Estimate

# Measures that are shown in percent.
SHARES = ("effective_share", "patch_mass", "top1_mass", "top5_mass", "top10_mass", "tokens60", "tokens90",
          "components25", "components50", "components100", "cls_mass", "register_mass",
          "outliers")  # fmt: skip


def page(template: Traversable, card: Card, images: Mapping[str, tuple[str, bytes]], **values: Any) -> str:
    """Fill a template of the package of the command that reports, with figures and style inside it.

    `images` are figures by name: their kind, ``jpeg``, ``png`` or ``svg``, and their bytes. The template gets
    them as ``figures``, ready for the ``src`` of an image, beside `card` and `values`.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": format_number, "interval": format_interval, "signed": format_signed}
    css = files("dirl.report") / "page.css"
    kinds = {"jpeg": "image/jpeg", "png": "image/png", "svg": "image/svg+xml"}
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        css=Markup(css.read_text(encoding="utf-8")),
        figures={
            name: f"data:{kinds[kind]};base64,{base64.b64encode(data).decode()}"
            for name, (kind, data) in images.items()
        },
        card=card,
        # Without the digests of files: the page is one of these files, and continued work has some already.
        card_text=json.dumps(asdict(replace(card, files={})), indent=2, ensure_ascii=False),
        **values,
    )


Value = Estimate | Mapping[str, float | None] | float | None


def format_number(value: Value, name: str = "") -> str:
    """A value to three digits, a share in percent, an en dash for none."""
    found = _value(value)
    if found is None:
        return "–"
    # z: what rounds to nothing has no sign.
    if name in SHARES:
        return f"{100 * found:z.1f} %".replace("-", "−")
    return (f"{found:.1f}" if abs(found) >= 10 else f"{found:z.3f}").replace("-", "−")


def format_interval(value: Estimate | Mapping[str, float | None], name: str = "") -> str:
    """The ends of an interval."""
    low, high = (value.low, value.high) if isinstance(value, Estimate) else (value["low"], value["high"])
    return "" if low is None else f"{format_number(low, name)}–{format_number(high, name)}".replace(" %", "")


def format_signed(value: Value, name: str = "") -> str:
    """A value with its sign; a difference of shares in percentage points."""
    found = _value(value)
    if found is None:
        return "–"
    text = (
        f"{100 * found:+.1f}" if name in SHARES else f"{found:+.1f}" if abs(found) >= 10 else f"{found:+.3f}"
    )
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def _value(value: Value) -> float | None:
    if isinstance(value, Estimate):
        return value.value
    return value["value"] if isinstance(value, Mapping) else value
