"""What all settings have in common: strict, frozen, and one line for each mistake."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dirl.core.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Folds = Annotated[int, Field(ge=2, description="Number of folds of the cross-validation.")]
Seed = Annotated[int, Field(description="Random seed.")]
Cells = Annotated[str, Field(description="Name of the cells in the store.")]


class Settings(BaseModel):
    """Frozen settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# What a user wrote may be long, or nested a thousand times.
shorter = reprlib.Repr()
shorter.maxstring = shorter.maxother = 100

Model = TypeVar("Model", bound=Settings)


def make(
    model: type[Model],
    values: Mapping[str, Any],
    *,
    where: object = None,
    options: Mapping[str, str] | None = None,
) -> Model:
    """Validate `values`, and say what is wrong with which key in one line.

    `options` gives the option of the command line that a user typed for a key.

    Raises
    ------
    ConfigError
        If a key is unknown or a value does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if options and item["loc"]:
                key = options.get(str(item["loc"][0]), key)
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "extra_forbidden":
                known = ", ".join(sorted(_fields_at(model, item["loc"][:-1])))
                problems.append(f"unknown key {key} (there are: {known})")
            elif isinstance(item["input"], Mapping):  # a whole section: the message names the values
                problems.append(f"{key}: {message}" if key else message)
            else:
                problems.append(f"{key}: {message} (got {shorter.repr(item['input'])})")
        raise ConfigError("; ".join(problems), where=where, remedy="correct it and run again") from None


def _fields_at(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    for parent in parents:
        annotation = model.model_fields[str(parent)].annotation
        kinds = (annotation, *get_args(annotation))  # for `Section | None`, take the section's class
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
