"""How long a run is, how its batches are made up, and when it logs and saves."""

from dataclasses import dataclass

from dirl.config import PretrainRecipe


@dataclass(frozen=True)
class Schedule:
    """The plan of a run.

    Attributes
    ----------
    seed
        Key of everything random.
    steps
        Steps of the run.
    batch
        Tiles in a step, over all devices and parts.
    parts
        Parts that each device's share of a batch is cut into, run one after the other.
    log_every, save_every
        Steps between two rows of the log, and between two checkpoints.
    """

    seed: int
    steps: int
    batch: int
    parts: int
    log_every: int
    save_every: int

    def tiles_at_once(self, ranks: int) -> int:
        """Tiles that a device works on at a time."""
        return self.batch // (self.parts * ranks)


def schedule_of(recipe: PretrainRecipe) -> Schedule:
    """Take the schedule from a recipe."""
    return Schedule(
        seed=recipe.seed,
        steps=recipe.steps,
        batch=recipe.batch,
        parts=recipe.optimiser.accumulate,
        log_every=recipe.log_every_steps,
        save_every=recipe.checkpoint_every_steps,
    )
