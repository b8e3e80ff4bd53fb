"""Which numbers a setting may hold."""

import math
from typing import NamedTuple

from dcgan_jax.system.errors import InputError


class Range(NamedTuple):
    """The numbers that a setting may hold, never infinity or NaN; beside a field in ``Annotated``.

    Attributes:
      least, most: the ends that it may hold.
      above, below: the ends that it may not.
      words: what a message says of other numbers; by default that they "must be at least" ``least``.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    words: str = ""

    def __call__(self, name: str, value: float) -> None:
        """Refuse the value of the setting ``name`` if it is out of this range.

        Raises:
          InputError: it is.
        """
        if not (self.least <= value <= self.most and self.above < value < self.below):
            raise InputError(f"{name} {value} {self.words or f'must be at least {self.least}'}")


SEED = Range(least=0, below=2**32, words="must lie in [0, 2**32)")
"""What a seed of JAX and NumPy may be, such as ``SEED("seed", 7)``."""
