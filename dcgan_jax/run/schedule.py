"""What is to be done after which step of a run."""

from typing import NamedTuple

from dcgan_jax.config import Config

_FIRST_PICTURES = (10, 25, 50, 100, 200)  # so that there is something to look at within a minute


class Due(NamedTuple):
    """What is to be done after a step."""

    line: bool
    pictures: bool
    evaluation: bool
    checkpoint: bool


def due(step: int, config: Config, *, measurable: bool = True) -> Due:
    """What is due after ``step``.

    Args:
      measurable: whether there are enough images to compare with.
    """
    last = step == config.steps
    evaluation = config.evaluates(step) and measurable
    return Due(
        line=last or evaluation or step % config.log_every == 0,
        pictures=last or step % config.sample_every == 0 or step in _FIRST_PICTURES,
        evaluation=evaluation,
        checkpoint=last or evaluation or step % config.checkpoint_every == 0 or step % config.keep_every == 0,
    )


def steps_until_due(step: int, config: Config, at_most: int) -> int:
    """How many steps can be taken after ``step`` before something is due, at most ``at_most``."""
    ends = range(step + 1, min(step + at_most, config.steps) + 1)
    return next((end for end in ends if any(due(end, config))), ends[-1]) - step
