"""From an objective's name to its class and its checked settings."""

from dirl.config import ObjectiveConfig, Settings, make
from dirl.core.errors import ConfigError
from dirl.core.plugins import resolve
from dirl.objectives.base import PairObjective
from dirl.objectives.teacher import TeacherObjective

AnyObjective = PairObjective | TeacherObjective


def load_objective(config: ObjectiveConfig) -> tuple[type[AnyObjective], Settings]:
    """Find an objective by its name, and check its settings.

    Raises
    ------
    ConfigError
        If there is no objective of this name, or it has no such setting.
    """
    kind = resolve("dirl.objectives", config.name)
    if not (isinstance(kind, type) and issubclass(kind, PairObjective | TeacherObjective)):
        remedy = "derive it from dirl.PairObjective or dirl.TeacherObjective"
        raise ConfigError("not an objective", where=f"objective {config.name!r}", remedy=remedy)
    return kind, make(kind.Config, config.options, where=f"objective {config.name}")
