"""Named configurations: what ``--recipe`` names. Any other flag changes one of their settings.

Results are those of ``python -m dcgan_jax.train --recipe NAME --data BOXES --steps 4000`` with 5,127 game sprites
(128,000 images at 64x64, seed 0) at the best step, by the run's own evaluation; real images have KID -.008, recall .94,
coverage .86. More: docs/results/recipes.md.
"""

import dataclasses
import re
from typing import Any

from dcgan_jax.config import BY_NAME, MAY_CHANGE, Config
from dcgan_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A configuration, and in a line when to use it."""

    use: str
    config: Config


_POKEMON = 40_597  # images

# The code of the chapter: N(0, 0.02) for every weight, BatchNorm in D's first block too, no image held out.
_CHAPTER = dataclasses.replace(
    Config(),
    data="pokemon",
    resize="squash",
    batch_size=256,
    batchnorm_scale_mean=0.0,
    first_batchnorm=True,
    augment="off",
    held_out=0,
    sample_every=_POKEMON // 256,
)

_ROBUST = dataclasses.replace(
    Config(),
    recipe="robust",
    loss="relativistic",
    penalty="both",
    gamma_final=0.4,
    augment="off",
    width="auto",
    discriminator_norm="none",
    learning_rate=2e-3,
    discriminator_rate=0.5,
    clip_norm=10.0,
    beta2=0.99,
)

RECIPES = {
    # The chapter's losses and networks; batch and rate chosen for many small steps, which serve best on a CPU.
    # KID .153, recall .19, coverage .52 after 112,000 images; 27 minutes on two cores of an AMD EPYC (Zen 4).
    "classic": Recipe(
        "the default for sprites and pokemon: the chapter's networks and losses, small batches, averaged weights, "
        "augmentation of small sets",
        Config(),
    ),
    # Huang et al. 2024 (R3GAN): its losses and penalties, with rates for short runs with small batches.
    # KID .096, recall .74, coverage .56 after 128,000 images; 34 minutes on one core of an AMD EPYC (Zen 5). Worst of
    # three seeds: KID .18, recall .71, coverage .51. Without the clip norm the start is a gamble, and a discriminator
    # twice as fast falls apart. With gamma_final=0.1 KID ends at .39 to .49, but photographs get better in runs
    # of 15,000 steps and more.
    "robust": Recipe(
        "to compare with projected, and where its network is not wanted: real and generated images in pairs, gradient "
        "penalties, no BatchNorm in the discriminator, no augmentation; each step takes 1.2 to 1.3 times as long as "
        "classic's",
        _ROBUST,
    ),
    # robust, and heads on projected features (Sauer et al. 2021) with its losses and penalties in place of theirs.
    # CPU time of a step of 32 images, to robust's: 1.3 at 64x64 and at 32x32, 2.2 at 32x32 and width 32.
    # FD 3.0 after 64,000 images and 2.2 after 80,000, on CIFAR-10 41.5 after 128,000: docs/results/projected.md.
    "projected": Recipe(
        "the default for pictures of your own: robust, and a second discriminator that sees features of a network "
        "trained on ImageNet; each step takes 1.3 times as long as robust's",
        dataclasses.replace(
            _ROBUST,
            recipe="projected",
            features="efficientnet-lite0",
            features_size="auto",
            gamma_schedule="hyperbolic",
            self_modulation=True,
        ),
    ),
    # Miyato et al. 2018, with the hinge loss of Lim & Ye 2017.
    # At 32x32 and width 32 KID 1.06, recall .08, coverage .34 (classic .415, .67, .60), with every image augmented.
    "sn": Recipe(
        "to compare with the literature: spectral norm in the discriminator, hinge loss; as fast as classic",
        dataclasses.replace(
            Config(),
            recipe="sn",
            loss="hinge",
            discriminator_norm="spectral",
            learning_rate=2e-4,
            beta1=0.0,
            beta2=0.9,
        ),
    ),
    # Radford et al. 2015, section 4: kernels N(0, 0.02), BatchNorm scales N(1, 0.02), none in D's first block.
    # Made for long runs with millions of images: not trained to its end here.
    "paper": Recipe(
        "Radford et al. 2015, section 4: z uniform on [-1, 1], batch 128, learning rate 2e-4",
        dataclasses.replace(
            Config(),
            recipe="paper",
            latent="uniform",
            batch_size=128,
            learning_rate=2e-4,
            steps=25_000,
            augment="off",
            sample_every=500,
            checkpoint_every=1000,
        ),
    ),
    # The tabs of PyTorch and MXNet. The chapter's images were not at hand: neither is trained to its end here.
    "chapter": Recipe(
        "Dive into Deep Learning, section DCGAN: its 40,597 sprites, batch 256, learning rate 0.005, 20 epochs",
        dataclasses.replace(_CHAPTER, recipe="chapter", learning_rate=0.005).for_epochs(20, images=_POKEMON),
    ),
    "chapter-tf": Recipe(
        "the same with the numbers of its TensorFlow tab: learning rate 0.0005, 40 epochs",
        dataclasses.replace(_CHAPTER, recipe="chapter-tf", learning_rate=0.0005).for_epochs(40, images=_POKEMON),
    ),
}


def suited(data: str) -> str:
    """The name of the recipe for these images: the chapter's for its own and the built-in ones, else what is best."""
    return "classic" if data in BY_NAME else "projected"


def suited_channels(data: str) -> int | str:
    """``Config.channels`` for these images: arrays have any number, others three unless that is changed."""
    has_arrays = re.search(r"\.(npy|npz)$|\.(h5|hdf5)(:|$)", data.lower())
    return "auto" if has_arrays else RECIPES["classic"].config.channels


def recipe(name: str | None = None, **changes: Any) -> Config:
    """The configuration of a recipe, as ``--recipe`` gives it.

    Args:
      name: classic, robust, projected, sn, paper, chapter or chapter-tf; None for what suits the data, as the command
        does without the flag: classic for sprites and pokemon, else projected.
      changes: other settings than the recipe's, by the names of ``Config``'s fields. Without ``channels`` a .npy,
        .npz or HDF5 file has those of its arrays.

    Raises:
      InputError: the name, a setting or a value is unknown.
    """
    data = changes.get("data", RECIPES["classic"].config.data)
    name = suited(data) if name is None else name
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}: choose {' or '.join(RECIPES)}")
    settings = {field.name for field in dataclasses.fields(Config)} - {"recipe"}
    if unknown := sorted(changes.keys() - settings):
        raise InputError(f"there is no setting {unknown[0]} to change in a recipe: see the fields of Config")
    return dataclasses.replace(RECIPES[name].config, **{"channels": suited_channels(data), **changes})


def check_meant(config: Config) -> None:
    """Refuse a new run with the name of a recipe of which it has nothing, or with settings that do nothing.

    Raises:
      InputError: says what to give instead.
    """
    named, plain = RECIPES[config.recipe].config, RECIPES["classic"].config
    # Not the width, which has been settled.
    own = [f.name for f in dataclasses.fields(config) if f.name not in ("recipe", "width", *MAY_CHANGE)]
    own = [name for name in own if getattr(named, name) != getattr(plain, name)]
    if own and all(getattr(config, name) != getattr(named, name) for name in own):
        raise InputError(
            f"recipe {config.recipe} has none of its settings here, such as {own[0]} {getattr(named, own[0])}: "
            f"start from dcgan_jax.recipe({config.recipe!r}), or leave the name out"
        )
    if not config.init:
        _refuse_changed(config, ("freeze_layers",), "--init, a model to start from")
        if config.init_partly:
            raise InputError(
                "init_partly does nothing without --init, a model to start from: give that, or leave it out"
            )
    if config.features == "none":
        _refuse_changed(config, ("features_weight", "features_gamma", "features_size"), "--features efficientnet-lite0")
    if config.class_sampling != "natural" and not config.conditional:
        raise InputError("class_sampling balanced does nothing without --conditional: give that, or leave it out")
    if config.penalty != "none":
        return
    if config.features != "none":
        raise InputError(
            f"features {config.features} need a penalty, without which their discriminator wins at once: give "
            "--recipe projected, or --penalty both and --discriminator-norm none; or --features none"
        )
    normed = config.discriminator_norm == "batch" and not config.discriminator
    penalty = "--penalty r1, r2 or both" + normed * ", which needs --discriminator-norm none or spectral"
    _refuse_changed(config, ("gamma", "penalty_every"), penalty)


def _refuse_changed(config, names, needed):
    for name in names:
        value, usual = getattr(config, name), getattr(RECIPES["classic"].config, name)
        if value not in (usual, "auto"):
            raise InputError(f"{name} {value:g} does nothing without {needed}: give that, or leave it at {usual:g}")


def described() -> str:
    """The recipes as lines of text, for ``--help``."""
    return "\n".join(f"  {name}: {recipe.use}" for name, recipe in RECIPES.items())
