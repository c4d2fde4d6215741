"""`dirl encoders`."""

from typing import Annotated

import typer


def encoders(
    name: Annotated[str | None, typer.Argument(help="Show one encoder, and how to get its weights.")] = None,
) -> None:
    """List the encoders that have a name of their own, with the resolution of their training.

    Example: dirl encoders uni
    """
    from rich.table import Table

    from dirl.core.progress import printer
    from dirl.encoders.known import find_known, known_encoders

    if name is None:
        table = Table(box=None, pad_edge=False)
        for heading in ("name", "µm/px", "px", "embedding", "access", "licence"):
            table.add_column(heading)
        for one in known_encoders().values():
            mpp = ", ".join(f"{value:g}" for value in one.mpp) or "not stated"
            access = "on request" if one.gated else "free"
            table.add_row(one.name, mpp, str(one.side), one.pooled, access, one.licence)
        printer().print(table)
        return
    one = find_known(name)
    options = "".join(f", {key}={value}" for key, value in one.arguments.items())
    facts = {
        "weights": f"https://huggingface.co/{one.hub}",
        "model": f"timm {one.architecture}{options}",
        "mean": ", ".join(map(str, one.mean)),
        "standard deviation": ", ".join(map(str, one.std)),
        "images": f"{one.side} px, tiles of other sizes are resized ({one.interpolation})",
        "embedding": "class token" if one.pooled == "class" else "class token and mean of the patch tokens",
        "trained at": f"{', '.join(f'{value:g}' for value in one.mpp)} µm/px" if one.mpp else "not stated",
        "licence": one.licence,
        "reference": one.reference,
        "access": "free",
    }
    if one.gated:
        facts["access"] = "request it on the page of the weights, then run `hf auth login`"
    facts["without network"] = f"{one.name},weights=FILE with {' or '.join(one.files)} of that page"
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in facts.items():
        table.add_row(key, value)
    printer().print(table)
