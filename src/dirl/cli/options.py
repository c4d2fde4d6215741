"""Options of several commands, each defined once, and options that a settings model defines."""

import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from dirl.config import Settings, make

DEVICES = "auto, cpu or cuda."
SEED = "Random seed."

Encoder = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="A name of `dirl encoders`, a run, timm:NAME_OR_DIR or hf:NAME_OR_DIR, "
        "and [,weights=FILE|random].",
    ),
]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="Tile store that `dirl tile` made.")]
Store = Annotated[Path, typer.Option(metavar="STORE", help="Tile store that `dirl tile` made.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Directory to write to.")]
Cells = Annotated[str, typer.Option(metavar="NAME", help="Name of the cells in the store.")]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|CSV",
        help="A column (label, slide_id, patient_id), or a CSV file of tile_id or slide_id, and label. "
        "CSV,label=COLUMN takes another column.",
    ),
]
Cohort = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="A CSV file with a row for each slide: path or slide_id, and any of patient_id, centre, mpp.",
    ),
]
LabelsCohort = Annotated[
    Path | None, typer.Option(metavar="CSV", help="The cohort's table, in place of --labels.")
]
LabelColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Its column with the labels.  [default: label]")
]
MppOverride = Annotated[
    float | None,
    typer.Option(metavar="X", help="Resolution of the slide in µm/px, if its file gives none."),
]
NoBaselines = Annotated[
    bool, typer.Option("--no-baselines", help="Skip the baselines: half the time, but no comparison.")
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help=DEVICES)]
Batch = Annotated[int, typer.Option(metavar="N", help="Tiles in one forward pass.", min=1)]
Workers = Annotated[
    int, typer.Option(metavar="N", help="Slides at the same time, one in each process.", min=1)
]
Threads = Annotated[int, typer.Option("--workers", metavar="N", help="Threads that read tiles.", min=1)]
READERS = "Processes that read tiles. 0: the main process reads."
Readers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help=READERS,
        min=0,
    ),
]
TrainingReaders = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", help=f"{READERS} By default up to 4 beside a GPU, and 0 on a CPU.", min=0
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help=SEED)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that has other settings.")]
Part = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only part I of N of the slides, counted from 0. In a SLURM array, N is enough.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no notes; results stay.")]

# Of options that a settings model defines and whose values are any text. Typer shows the values of a Literal.
METAVARS = {
    "segmenter": "SEGMENTER",
    "name": "NAME",
    "cells": "NAME",
    "masks": "DIR",
    "between": "NAME|FILE",
    "groups": "COLUMN",
    "evaluator": "EVALUATOR",
}

Command = Callable[..., None]


def takes(model: type[Settings], /, *fields: str, **renamed: str) -> Callable[[Command], Command]:
    """Replace the command's parameter of a model by one option for each of these fields of the model.

    Type, bounds, default and help are those of the field. Only options that are given reach the model, so
    that its ``model_fields_set`` tells which these are.

    Parameters
    ----------
    model
        Type of the parameter that is replaced.
    fields
        Names of its fields, by default all. An option is called like its field, without the unit ``_px``.
    renamed
        Names of fields whose options have another name, by the option's name.
    """
    options = {name.removesuffix("_px"): name for name in fields or model.model_fields} | renamed

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        replaced = next(name for name, each in signature.parameters.items() if each.annotation is model)
        parameters: list[Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == replaced:
                parameters += [
                    _parameter(option, model.model_fields[name]) for option, name in options.items()
                ]
            else:
                parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))  # as typer calls it

        @wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(option) for option, name in options.items()}
            values = {name: value for name, value in values.items() if value not in (None, [])}
            named = {name: f"--{option.replace('_', '-')}" for option, name in options.items()}
            where = f"dirl {command.__name__.replace('_', '-')}"
            command(**{replaced: make(model, values, where=where, options=named)}, **given)

        run.__dict__["__signature__"] = signature.replace(parameters=parameters)
        run.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
        return run

    return decorate


def _parameter(option: str, field: FieldInfo) -> Parameter:
    """Make the parameter that typer turns into the option of a field."""
    kind, bounds, several = _resolve(field.annotation, _bounds(field.metadata))
    default = None if field.default is None or kind is bool or several else field.default
    metavar = METAVARS.get(option) if kind is str else {int: "N", float: "X"}.get(kind)
    if several and kind not in (int, float, str):  # typer takes no list of a Literal
        kind, metavar = str, f"[{'|'.join(get_args(kind))}]"
    information = typer.Option(
        f"--{option.replace('_', '-')}",
        help=f"{field.description}" + ("" if default is None else f"  [default: {default}]"),
        show_default=False,
        metavar=metavar,
        min=bounds.get("ge"),
        max=bounds.get("le"),
    )
    plain: Any = GenericAlias(list, (kind,)) if several else kind | None
    annotation: Any = Annotated[plain, information]
    return Parameter(option, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _resolve(annotation: Any, bounds: dict[str, float]) -> tuple[Any, dict[str, float], bool]:
    """Return the plain type of a field's values, their bounds, and whether there are several values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _resolve(next(each for each in inner if each is not NoneType), bounds)
    if origin is Annotated:
        return _resolve(inner[0], bounds | _bounds(m for each in inner[1:] for m in each.metadata))
    if origin is tuple:
        return *_resolve(inner[0], bounds)[:2], True
    if origin is Literal and not isinstance(inner[0], str):
        return type(inner[0]), bounds, False
    return annotation, bounds, False


def _bounds(metadata: Any) -> dict[str, float]:
    return {name: getattr(each, name) for each in metadata for name in ("ge", "le") if hasattr(each, name)}
