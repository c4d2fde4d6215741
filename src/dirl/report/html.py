"""Reports: one HTML file that holds everything and asks nothing of the network."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dirl.audit.titles import PRIMARY, TITLES
from dirl.core.provenance import Card

# In the summary's table, in this order; the others stand in the table of all measures.
HEADLINE = ("entropy", "effective_share", "gini", "top10_mass", "components50", "patch_mass")
SHARES = ("effective_share", "patch_mass", "top1_mass", "top5_mass", "top10_mass", "tokens60", "tokens90",
          "components25", "components50", "components100", "cls_mass", "register_mass",
          "outliers")  # fmt: skip


def render(summary: Mapping[str, Any], card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """Write the report of an audit.

    Parameters
    ----------
    summary
        What `summary.json` holds.
    card
        The audit's card.
    images
        Figures by name: their kind, ``jpeg``, ``png`` or ``svg``, and their bytes.
    """
    titles = {name: title for name, title in TITLES.items() if _measured(summary, name)}
    places = {one["name"]: one for one in summary["encoders"]}
    return page(
        "report.html",
        card,
        images,
        summary=summary,
        lines=[(line, places[line["encoder"]]) for line in summary["leaderboard"]],
        titles=titles,
        headline=HEADLINE,
        primary=PRIMARY,
    )


def page(template: str, card: Card, images: Mapping[str, tuple[str, bytes]], **values: Any) -> str:
    """Fill a template of this package, with figures and style inside it.

    Parameters
    ----------
    template
        File name, ``*.html``.
    card
        The card of what is reported.
    images
        As in `render`; the template sees them as ``figures``, ready for the source of an image.
    values
        What else the template sees.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "interval": interval, "signed": signed}
    here = files("dirl.report")
    kinds = {"jpeg": "image/jpeg", "png": "image/png", "svg": "image/svg+xml"}
    return environment.from_string((here / template).read_text(encoding="utf-8")).render(
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        figures={
            name: f"data:{kinds[kind]};base64,{base64.b64encode(data).decode()}"
            for name, (kind, data) in images.items()
        },
        card=card,
        card_text=json.dumps(asdict(card), indent=2, ensure_ascii=False),
        **values,
    )


def _measured(summary: Mapping[str, Any], name: str) -> bool:
    found = [one["last_block"]["heads_averaged"][name]["value"] for one in summary["encoders"]]
    return any(value is not None for value in found)


def number(value: Mapping[str, float | None] | float | None, name: str = "") -> str:
    """A value to three digits, a share in percent, an en dash for none."""
    found = value["value"] if isinstance(value, Mapping) else value
    if found is None:
        return "–"
    # z: what rounds to nothing has no sign.
    if name in SHARES:
        return f"{100 * found:z.1f} %".replace("-", "−")
    return (f"{found:.1f}" if abs(found) >= 10 else f"{found:z.3f}").replace("-", "−")


def interval(value: Mapping[str, float | None], name: str = "") -> str:
    """The ends of an interval."""
    if value["low"] is None:
        return ""
    return f"{number(value['low'], name)}–{number(value['high'], name)}".replace(" %", "")


def signed(value: Mapping[str, float | None] | float | None, name: str = "") -> str:
    """A value with its sign; a difference of shares in percentage points."""
    found = value["value"] if isinstance(value, Mapping) else value
    if found is None:
        return "–"
    text = (
        f"{100 * found:+.1f}" if name in SHARES else f"{found:+.1f}" if abs(found) >= 10 else f"{found:+.3f}"
    )
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]
