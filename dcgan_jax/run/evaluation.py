"""The evaluations of a run, in its ``evaluation.json``: the record of one, and how they are saved and loaded."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcgan_jax.metrics.evaluate import Figures, labels
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.pretrained.efficientnet import LITE0, LITE2
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, read_text, write_text
from dcgan_jax.system.schema import checked

FEATURES = (CIFAR.name, LITE0.name, LITE2.name, "Inception")
"""The names of all sets of features that images are compared in; in Lite0's until 0.3."""
_FORMER = {"ImageNet": LITE0.name}  # what files of those versions call them
_LARGEST = 16 << 20  # bytes of evaluation.json or classes.json


class FID(NamedTuple):
    """The Fréchet distance in Inception's features of ``n`` samples against all ``reals`` images, as in papers."""

    value: float
    n: int
    reals: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Samples of one checkpoint compared with real images in one set of features.

    Attributes:
      features: in which they are compared, one of ``FEATURES``.
      step: of the checkpoint.
      n: samples in each of three sets, and real images that they are compared with.
      figures: each metric by its name in ``metrics.evaluate.labels``: value, floor, low, high, n.
      fid: only with Inception's features.
      seed: of the noise and of the halves of the images; None where an older file does not say.
      ema: whether the weights were averaged; None where an older file does not say.
    """

    features: str
    step: int
    n: int
    figures: Mapping[str, Figures]
    fid: FID | None = None
    seed: int | None = None
    ema: bool | None = None

    def key(self) -> tuple:
        """A later evaluation with this key takes the place of an earlier one; others stay beside it."""
        return self.step, FEATURES.index(self.features), self.ema is False

    def to_json(self) -> dict[str, Any]:
        """As ``evaluation.json`` holds it."""
        values = {"step": self.step, "n": self.n, "features": self.features, "ema": self.ema, "seed": self.seed}
        fid = {"fid": self.fid._asdict()} if self.fid else {}
        return {**values, **fid, "metrics": {name: figure._asdict() for name, figure in self.figures.items()}}


def load_evaluations(path: Path) -> list[Evaluation]:
    """All evaluations that an ``evaluation.json`` holds, by step and features; none if there is no such file.

    Raises:
      InputError: it cannot be read, or is not as ``evaluate`` writes it.
    """
    with named_damage(path):
        values = read_json(path, default=[])
        values = values if isinstance(values, list) else [values]
        evaluations = {one.key(): one for one in map(_evaluation, values)}
    return [evaluations[key] for key in sorted(evaluations)]


def save_evaluations(path: Path, new: Sequence[Evaluation]) -> None:
    """Add evaluations to an ``evaluation.json``, in the place of those with the same step, features and weights.

    Raises:
      InputError: what is there is damaged, or it cannot be written.
    """
    everything = {one.key(): one for one in [*load_evaluations(path), *new]}
    with writing(path):
        write_text(path, json.dumps([everything[key].to_json() for key in sorted(everything)], indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class _Stored:
    """An entry of ``evaluation.json``; see ``Evaluation``."""

    step: int
    n: int
    metrics: dict[str, Figures]
    features: str = CIFAR.name  # the first versions had one set only, and no name for it
    fid: FID | None = None
    seed: int | None = None
    ema: bool | None = None


def _evaluation(values: Any) -> Evaluation:
    one = checked(_Stored, values, "an evaluation")
    features = features_called(one.features)
    if unknown := sorted(one.metrics.keys() - labels(features).keys()):
        raise ValueError(f"unknown metric {unknown[0][:50]!r}")
    return Evaluation(features, one.step, one.n, one.metrics, one.fid, seed=one.seed, ema=one.ema)


def features_called(name: str) -> str:
    """The features, one of ``FEATURES``, that a file of any version calls so.

    Raises:
      ValueError: there are none of this name.
    """
    features = _FORMER.get(name, name)
    if features not in FEATURES:
        raise ValueError(f"unknown features {name[:50]!r}")
    return features


@contextlib.contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Turn a ValueError of the block, what is wrong with the content of ``path``, into one that says what to do.

    Raises:
      InputError: from a ValueError, or because the file cannot be read.
    """
    try:
        with reading(path):
            yield
    except ValueError as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): delete it, and evaluate again") from None


def read_json(path: Path, *, default: Any) -> Any:
    """What a JSON file of at most 16 MiB holds; ``default`` if there is none."""
    return parse_json(read_text(path, most=_LARGEST)) if path.exists() else default
