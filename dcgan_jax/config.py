"""All settings of a run, in one frozen dataclass that is validated when it is created."""

import dataclasses
import functools
import importlib
import json
import math
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from dcgan_jax import sizes
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, read_text
from dcgan_jax.system.ranges import SEED, Range

_Class = typing.TypeVar("_Class")

SETTINGS = "config.json"
"""The file in the folder of a run that holds these."""
CHANNELS = 256
"""Most channels of an image."""
MAY_CHANGE = (
    "data",
    "device_data",
    "input",
    "show",
    "steps",
    "sample_every",
    "evaluate_every",
    "checkpoint_every",
    "keep_newest",
    "keep_every",
    "retries",
)
"""Fields that may differ when a run resumes: no step's result depends on them, unless the run diverges.

The images that ``data`` names are compared by content, not by path."""
OWN = ("generator", "discriminator", "objective")
"""Fields that may name something of the user's own."""
BY_IMAGES = ("image_size", "channels")
"""Fields that may be ``auto`` until the images settle their value: see ``data/settle.py``."""
BY_NAME = ("sprites", "pokemon")
"""Values of ``data`` that are not paths: the built-in creatures and the chapter's images."""
ADDED = (
    *("self_modulation", "gamma_schedule", "features", "features_weight", "features_gamma", "features_size"),
    *("init", "init_partly", "freeze_layers"),
    *("conditional", "class_sampling"),
    *("bits", "show", "column"),
)
"""Fields added since version 0.2.0. A ``config.json`` without one means its value in ``BEFORE``, else its default."""
BEFORE: dict[str, typing.Any] = {"bits": "8"}
"""What was done before there was a field, where its default is something else."""
_AT_LEAST_0, _AT_LEAST_1 = Range(least=0), Range(least=1)
_BELOW_1 = Range(least=0, below=1, words="must lie in [0, 1)")


def has_alpha(channels: int | str) -> bool:
    """Whether the last of so many channels says how opaque a pixel is."""
    return channels in (2, 4)


def check_epochs(epochs: int) -> None:
    """Refuse what is no number of epochs.

    Raises:
      InputError: it is no whole number from 1 on.
    """
    _typed("epochs", int, epochs)
    _AT_LEAST_1("epochs", epochs)


def check_shown(name: str, shown: Any, channels: int) -> None:
    """Refuse what are neither one nor three of so many channels, counted from 1; None is fine.

    Raises:
      InputError: they are not.
    """
    if shown is None:
        return
    fits = isinstance(shown, list | tuple) and len(shown) in (1, 3) and all(type(one) is int for one in shown)
    if not fits or not 1 <= min(shown) <= max(shown) <= channels:
        all_ = f" of the {channels} that there are" if channels < CHANNELS else ""  # auto: it is not known yet
        raise InputError(f"{name} {_short(shown)} must be one channel or three{all_}, counted from 1")


def _features_size(name: str, size: int | str) -> None:
    if size not in ("auto", 0, 32, 64, 96, 128, 256):
        raise InputError(f"{name} {_short(size)} must be 32, 64, 96, 128 or 256, or auto for what fits the images")


def _channels(name: str, value: int | str) -> None:
    if value != "auto" and not (isinstance(value, int) and 1 <= value <= CHANNELS):
        raise InputError(f"{name} {_short(value)} must be a number of channels, from 1 to {CHANNELS}, or auto")


def _width(name: str, value: int | str) -> None:
    if isinstance(value, int):
        _AT_LEAST_1(name, value)
    elif value != "auto":
        raise InputError(f"{name} {_short(value)} must be a number of channels, such as 64, or auto")


def _not_empty(name: str, value: str) -> None:
    if not value:
        raise InputError(f"{name} is empty: give sprites, pokemon, tfds:NAME, hf:NAME, or a folder or .zip of images")


def _importable(name: str, value: str) -> None:
    if value and not re.fullmatch(r"\w+(\.\w+)*:\w+", value):
        raise InputError(f"{name} {value!r} must be of the form package.module:Name")


def _whole(cls: type[_Class]) -> type[_Class]:
    """Refuse the name of a recipe without all of its settings, which the defaults here are not."""
    init, names = cls.__init__, list(cls.__annotations__)

    @functools.wraps(init)
    def checked(self, *values, **named):
        init(self, *values, **named)
        if self.recipe != "classic" and set(names) - set(names[: len(values)]) - set(named):
            raise InputError(
                f"Config(recipe={self.recipe!r}) has the settings of classic: "
                f"use dcgan_jax.recipe({self.recipe!r}), which takes changes of other settings too"
            )

    cls.__init__ = checked
    return cls


@_whole
@dataclasses.dataclass(frozen=True)
class Config:
    """One training run. Every field is a command-line flag of the same name.

    ``dcgan_jax.recipe`` makes those of other recipes than classic.
    """

    recipe: Literal["classic", "robust", "projected", "sn", "paper", "chapter", "chapter-tf"] = "classic"
    """The settings that all others change: see above. Without it, classic for sprites and pokemon, else projected."""
    data: Annotated[str, _not_empty] = "sprites"
    (
        "The images: sprites (built in), pokemon (the d2l chapter's set), tfds:NAME[:SPLIT], hf:NAME[:SPLIT] of the "
        "Hub of Hugging Face, or the path of a folder, .zip or .tar of images, of .parquet, .npy, .npz, HDF5 or IDX "
        "files."
    )
    column: str = ""
    """The column of the images in a table, where it is not clear which."""
    steps: Annotated[int, _AT_LEAST_1, Range(below=2**31, words="must be less than 2**31")] = 5000
    """Total number of training steps; a larger number later extends the run."""
    batch_size: Annotated[int, Range(least=2, words="is too small: BatchNorm needs at least 2 images")] = 32
    """Real images per step, and as many generated ones."""
    image_size: int | str = 64
    (
        "Size of the images in pixels: the side of squares, or HEIGHTxWIDTH, such as 96x64. Each side is 3 to 8 times "
        "the same power of two, from 16 to 256. auto is what is nearest to the shape that most of the pictures have."
    )
    channels: Annotated[int | str, _channels] = 3
    (
        "3 for RGB, 4 for RGB and alpha, which is transparency; 1 for grayscale, 2 for grayscale and alpha; or auto, "
        "as few of these as lose nothing. Arrays may have any number."
    )
    width: Annotated[int | str, _width] = 64
    (
        "Channels of the largest feature maps (those next to the image); each halving of the side doubles them. auto "
        "is 64 for up to 64x64 pixels, and less for more: 32 at 128x128, 16 at 256x256."
    )
    latent_dim: Annotated[int, _AT_LEAST_1] = 100
    """Length of the latent vector z."""
    latent: Literal["normal", "uniform"] = "normal"
    """Distribution of z: N(0, 1), or uniform on [-1, 1] as in the paper."""
    loss: Literal["bce", "hinge", "lsgan", "relativistic"] = "bce"
    (
        "What both networks minimise: cross-entropy (the chapter's), hinge, least squares, or real and generated "
        "images in pairs."
    )
    penalty: Literal["none", "r1", "r2", "both"] = "none"
    """Penalty on the discriminator's squared gradient at the real (r1) or the generated images (r2), or both."""
    gamma: Annotated[float, _AT_LEAST_0] = 0.0
    """Weight of the penalty, γ in γ/2 times the squared gradient; 0 for √(height · width) / batch_size."""
    gamma_final: Annotated[float, _AT_LEAST_0] = 1.0
    """The weight at the end of annealing, as a multiple of that at the start."""
    gamma_schedule: Literal["cosine", "hyperbolic"] = "cosine"
    (
        "How the weight falls: by half a cosine, and not after the end of annealing; or as 1 / (1 + images seen / h) "
        "for ever, which suits runs of any length."
    )
    penalty_every: Annotated[int, _AT_LEAST_1] = 1
    """Steps between penalties, each as many times as strong."""
    learning_rate: Annotated[float, Range(above=0, words="must be a positive number, such as 4e-4")] = 4e-4
    """Adam's step size."""
    learning_rate_final: Annotated[float, _AT_LEAST_0] = 1.0
    """The step size at the end of annealing, as a multiple of that at the start."""
    discriminator_rate: Annotated[float, Range(above=0, words="must be a positive number, such as 1")] = 1.0
    """The discriminator's step size, as a multiple of learning_rate."""
    clip_norm: Annotated[float, _AT_LEAST_0] = 0.0
    """Longer gradients of a network are shortened to this Euclidean norm; 0 for no limit."""
    beta1: Annotated[float, _BELOW_1] = 0.5
    """Adam's decay rate of the first moment."""
    beta2: Annotated[float, _BELOW_1] = 0.999
    """Adam's decay rate of the second moment."""
    beta2_final: Annotated[float, _AT_LEAST_0] = 1.0
    """1 - beta2 at the end of annealing, as a multiple of that at the start: 0.1 goes from 0.9 to 0.99."""
    anneal_images: Annotated[int, _AT_LEAST_1] = 128000
    """Images seen until what is annealed has its final value, by half a cosine."""
    augment: Literal["auto", "off", "full"] = "auto"
    (
        "Random colours, shifts and cut-out squares in all that the discriminator sees, which small sets need: "
        "auto is full for up to 10 thousand images, fading to none at 100 thousand."
    )
    flip: bool = False
    """Mirror images at random, left to right: for faces, not for letters."""
    discriminator_norm: Literal["batch", "spectral", "none"] = "batch"
    """The discriminator's normalisation: BatchNorm, spectral norm, or none; the last two with biases."""
    extra_convs: Annotated[int, _AT_LEAST_0] = 0
    """3x3 convolutions after each halving in the discriminator."""
    leaky_slope: Annotated[float, Range(least=0, most=1, words="must lie in [0, 1]")] = 0.2
    """Slope of the discriminator's LeakyReLU below zero; 0 makes it a ReLU."""
    first_batchnorm: bool = False
    """BatchNorm in the discriminator's first block too, as in the chapter's code (the paper has none)."""
    batchnorm_scale_mean: Annotated[float, Range(words="must be finite")] = 1.0
    """BatchNorm scales start as N(this, 0.02): 1 is the common DCGAN recipe, 0 the chapter's."""
    self_modulation: bool = False
    """Each image has BatchNorm scales and shifts of its own in the generator, made of z (Chen et al. 2019)."""
    features: Literal["none", "efficientnet-lite0"] = "none"
    (
        "A second discriminator that sees features of this network, which was trained on ImageNet and stays as it "
        "is; it has the losses and penalties of the first."
    )
    features_weight: Annotated[float, Range(above=0, words="must be a positive number, such as 1")] = 1.0
    """Weight of its loss in the generator's."""
    features_gamma: Annotated[float, _AT_LEAST_0] = 1.0
    """Weight of its penalty, whose gradient is that with respect to the features; it changes as gamma does."""
    features_size: Annotated[int | str, _features_size] = 0
    (
        "Shorter side to which images are enlarged or reduced for it: 32, 64, 96, 128 or 256. 0 is 32 if it has at "
        "most 32 pixels, else 64. auto is the same, but 32 too if images of 64 and more have little fine detail."
    )
    conditional: bool = False
    (
        "Learn the classes of the images, their folders or labels, so that you can ask for one: sample(params, key, "
        "labels=...), generate --class NAME."
    )
    class_sampling: Literal["natural", "balanced"] = "natural"
    (
        "How often a conditional run is shown each class: as often as it has images, or all equally often, for classes "
        "of very different sizes."
    )
    generator: Annotated[str, _importable] = ""
    (
        "A network of your own in place of the built-in one, as package.module:Name: a Flax module, or its class, "
        "of which each field with the name of a setting gets its value."
    )
    discriminator: Annotated[str, _importable] = ""
    """Likewise."""
    objective: Annotated[str, _importable] = ""
    """Losses of your own in place of those of loss, likewise: an Objective."""
    init: str = ""
    (
        "The model that a new run starts from in place of random weights: the folder of a run, a .safetensors file "
        "that export wrote, or hf:USER/NAME. A run that goes on does not need it any more."
    )
    init_partly: bool = False
    """Take the layers of init that fit, where others do not."""
    freeze_layers: Annotated[int, _AT_LEAST_0] = 0
    """So many blocks of the discriminator, from the image on, stay as init has them (FreezeD)."""
    ema_half_life: Annotated[float, Range(least=0, words="must be at least 0, such as 8192")] = 8192.0
    (
        "Half-life, in images, of the running average of the generator's weights that samples are drawn from, at "
        "most 0.05 of the images seen; 0 for the newest weights."
    )
    background: str = "white"
    """Colour of transparent pixels and of padding: a name or #rrggbb. Not with alpha, where they stay transparent."""
    resize: Literal["crop", "squash", "pad"] = "crop"
    (
        "How pictures get the shape of the images: crop to the centre, change the proportions, or pad with the "
        "background colour, with alpha with nothing."
    )
    range: tuple[float, float] | None = None
    (
        "The lowest and the highest value of arrays, or the values that are black and white of pictures with more than "
        "8 bits a value, such as 0 4095; by default those of the type of unsigned integers. Others need it."
    )
    bits: Literal["auto", "8", "16"] = "auto"
    (
        "Bits of a value of the decoded images: auto is 8 where that loses nothing, else 16. Pictures with a colour "
        "profile or transparency have 8."
    )
    show: tuple[int, ...] | None = None
    (
        "The channels that are shown as red, green and blue, or one as grey, counted from 1; by default the first "
        "three where there are neither 1 nor 3."
    )
    seed: Annotated[int, SEED] = 0
    """Seed of everything random: weights, noise, the order of the images, and what sprites draws."""
    precision: Literal["float32", "bf16"] = "float32"
    (
        "Precision of the matrix products, on accelerators of the feature maps too; weights, optimizer and "
        "BatchNorm statistics are always float32. On CPUs with AMX (Intel, from 2023 on) bf16 takes half the time."
    )
    deterministic: bool = False
    """On GPUs: the same bits at every run, and possibly slower. CPUs always compute the same."""
    device_data: bool = False
    """Keep all images on the device, where batches are then taken: for GPUs, and sets that fit into their memory."""
    input: Literal["auto", "tf", "numpy"] = "auto"
    (
        "What reads the images while it trains: tf.data, or NumPy in two threads; the batches are the same. auto "
        "is tf if TensorFlow is installed."
    )
    dispatch: Literal["auto", "single", "several"] = "auto"
    (
        "Steps that are sent to the device at once: one, or several, at most 25, as many as divide log_every. "
        "Several pay where a step is short. A stop waits for two such groups. auto is single on CPUs, else "
        "several."
    )
    log_every: Annotated[int, _AT_LEAST_1] = 10
    """Steps between lines of metrics.jsonl."""
    sample_every: Annotated[int, _AT_LEAST_1] = 250
    """Steps between sample grids."""
    evaluate_every: Annotated[int, _AT_LEAST_0] = 16000
    """Images seen between evaluations, after which the best checkpoint is known and kept; 0 for none."""
    held_out: Annotated[int, _AT_LEAST_0] = 200
    """Images kept out of training, at most a twentieth, to see whether the discriminator knows the others by heart."""
    checkpoint_every: Annotated[int, _AT_LEAST_1] = 500
    """Steps between checkpoints."""
    keep_newest: Annotated[int, _AT_LEAST_1] = 3
    """How many of the newest checkpoints are kept."""
    keep_every: Annotated[int, _AT_LEAST_1] = 5000
    """Steps between checkpoints that are also kept."""
    retries: Annotated[int, _AT_LEAST_0] = 3
    """How often a run that diverges tries again from the same checkpoint with other noise before it gives up."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            kind, *checks = typing.get_args(field.type) if _is_annotated(field.type) else (field.type,)
            value = _typed(field.name, kind, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            for check in checks:
                check(field.name, value)
        self._check_together()

    def _check_together(self):
        if (1 - self.beta2) * self.beta2_final > 1:
            most = math.floor(1e4 / (1 - self.beta2)) / 1e4  # not rounded up: 1 - 0.99 is a bit more than 0.01
            raise InputError(f"beta2_final {self.beta2_final} makes beta2 negative: give at most {most}")
        if self.gamma_schedule == "hyperbolic" and not self.gamma_final:
            raise InputError("gamma_schedule hyperbolic never reaches 0: give a gamma_final such as 0.1, or cosine")
        check_shown("show", self.show, self.channels if isinstance(self.channels, int) else CHANNELS)
        if self.discriminator_norm != "batch" and self.first_batchnorm:
            raise InputError("first_batchnorm needs --discriminator-norm batch, or give --no-first-batchnorm")
        if has_alpha(self.channels) and self.background != "white":
            raise InputError(
                f"background {self.background!r} is seen nowhere with channels {self.channels}, which keep pictures "
                f"transparent: leave it out, or give --channels {int(self.channels) - 1}"
            )
        if has_alpha(self.channels) and self.bits == "16":
            raise InputError(
                f"bits 16 cannot be had with channels {self.channels}, as pictures with transparency have 8: leave it "
                f"out, or give --channels {int(self.channels) - 1}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images.

        Raises:
          InputError: one of them is still ``auto``.
        """
        for name in self.unsettled():
            raise InputError(f"{name} auto is settled by the images: take settle(config), as fit does")
        return *sizes.sides(self.image_size), int(self.channels)

    @property
    def outer_width(self) -> int:
        """``width``, or the number that ``auto`` means: as many at 64x64, and inversely as the side of larger images.

        So the small maps have the same channels at all sizes.

        Raises:
          InputError: it is ``auto``, and the shape of the images is, too.
        """
        if isinstance(self.width, int):
            return self.width
        height, width, _ = self.image_shape
        return min(64, 8 * round(64 * 64 / math.sqrt(height * width) / 8))

    def unsettled(self) -> list[str]:
        """The fields of ``BY_IMAGES`` that are ``auto``."""
        return [name for name in BY_IMAGES if getattr(self, name) == "auto"]

    def as_settled(self, before: "Config") -> "Config":
        """The same, with the values of ``before`` for the fields that are ``auto`` here."""
        others = ("bits", "width", "features_size")
        names = [*self.unsettled(), *(name for name in others if getattr(self, name) == "auto")]
        return dataclasses.replace(self, **{name: getattr(before, name) for name in names})

    def evaluates(self, step: int) -> bool:
        """Whether the generator is evaluated after ``step`` steps: at multiples of ``evaluate_every`` images, at the
        end, and, if it is that of another model, at the start."""
        seen, every = step * self.batch_size, self.evaluate_every
        if step == 0:
            return every > 0 and bool(self.init)
        return every > 0 and seen >= every and (step == self.steps or seen % every < self.batch_size)

    def for_epochs(self, epochs: int, *, images: int) -> "Config":
        """The same with so many steps that each of the ``images`` to train on is seen ``epochs`` times."""
        return dataclasses.replace(self, steps=math.ceil(epochs * images / self.batch_size))

    def imported(self, name: str) -> typing.Any:
        """What ``generator``, ``discriminator`` or ``objective`` names; None for the built-in.

        Raises:
          InputError: there is no such module, or nothing of this name in it.
        """
        if not (value := getattr(self, name)):
            return None
        module, _, attribute = value.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise InputError(f"{name} {value} cannot be imported ({first_line(error)}): name what is in it") from error
        except ImportError as error:
            raise InputError(
                f"{name} {value} cannot be imported ({first_line(error)}): add the folder of {module.split('.')[0]} to "
                f"PYTHONPATH, or in a script give {name}= the object itself"
            ) from error

    def to_json(self) -> str:
        """Write the settings as the text of a ``config.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read a ``config.json``, validated like the command line.

        Raises:
          InputError: the file is missing, is not JSON, or holds an unknown or bad field, or lacks one that is not
            in ``ADDED``.
        """
        try:
            text = read_text(Path(path))
            if not text.strip():
                raise InputError(f"{path} is empty: bring a copy of it back, or give another --workdir")
            values = parse_json(text)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: {path.parent} is not the folder of a run") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a run's configuration: {error}") from None
        if not isinstance(values, dict):
            raise InputError(f"{path} is not a run's configuration, but a {type(values).__name__}")
        defaults: dict[str, typing.Any] = {field.name: field.default for field in dataclasses.fields(cls)}
        values = {name: defaults[name] for name in ADDED} | BEFORE | values
        if unknown := sorted(set(values) - set(defaults)):
            raise InputError(f"{path} is not a configuration of this version: unknown {_short(unknown)[1:-1]}")
        if missing := {name: default for name, default in defaults.items() if name not in values}:
            lines = json.dumps(missing).strip("{}")
            raise InputError(
                f"{path} is not a configuration of this version: if the run used the defaults, add {lines}"
            )
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def differences(self, other: "Config") -> list[str]:
        """Fields outside ``MAY_CHANGE`` in which two configurations differ, each as ``name (ours, was theirs)``."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return [f"{name} ({a!r}, was {b!r})" for name, a, b in pairs if a != b and name not in MAY_CHANGE]


def _is_annotated(kind) -> bool:
    return typing.get_origin(kind) is Annotated


def _typed(name, kind, value):
    """``value`` if it is of the type ``kind``; an int becomes a float where one is expected."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise InputError(f"{name} {_short(value)} is unknown: choose {' or '.join(choices)}")
        return value
    if name == "range":
        return _checked_range(value)
    if name == "image_size":
        return value if value == "auto" else sizes.checked(value)
    if isinstance(kind, types.UnionType):  # such as int | str: a number, or auto
        kinds = typing.get_args(kind)
        kind = type(value) if type(value) in kinds else kinds[0]
    if name == "show":
        return tuple(value) if isinstance(value, list) else value  # in JSON they are a list
    if type(value) is int and abs(value) >= 2**32:
        raise InputError(f"{name} is a number of {value.bit_length()} bits: give a smaller one")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{name} {_short(value)} must be of type {kind.__name__}")
    return value


def _short(value) -> str:
    """A value in a message; that of a damaged file may be long."""
    text = repr(value)
    return text if len(text) < 100 else f"{text[:99]}…"


def _checked_range(value):
    """Two different finite numbers, or None. In JSON they are a list."""
    if value is None:
        return None
    fits = isinstance(value, list | tuple) and len(value) == 2 and all(type(end) in (int, float) for end in value)
    if not fits or not all(abs(end) <= 1e300 for end in value) or not abs(value[1] - value[0]) > 1e-300:
        raise InputError(
            f"range {_short(value)} must be two different numbers, both finite: the lowest and the highest value, such "
            "as 0 4095"
        )
    return float(value[0]), float(value[1])
