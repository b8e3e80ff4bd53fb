"""What is said of a set of images when it is opened: what it holds, and what to expect of it."""

from collections.abc import Iterator

import numpy as np

from dcgan_jax.config import has_alpha
from dcgan_jax.data.build import Manifest, first_lines, of_skipped
from dcgan_jax.data.depth import Range, Values, notices
from dcgan_jax.data.sources import Source
from dcgan_jax.system.errors import printable, shortened

_FEW = 200
"""Fewer different images than this get a warning: a network learns them by heart."""
_MANY_COPIES = 0.1
"""A larger share of copies gets a warning."""


def remarks(images: Manifest, labels: np.ndarray, source: Source, stated: Range | None) -> Iterator[str]:
    """Lines on a set of images: what was skipped, what there is, and what to expect of images that teach little.

    Args:
      labels: of the images, indices into ``images.labels``.
      stated: the values that are black and white, as in ``Config.range``.
    """
    if images.skipped:
        yield f"skipped {of_skipped(images.skipped, len(labels), source)}"
    if images.off_colour:
        ignored = f"{len(images.off_colour)} pictures in {source.name} have a colour profile that cannot be used"
        yield printable(f"{ignored}, and are taken as sRGB: {first_lines(images.off_colour)}")
    if images.several:
        yield printable(
            f"{images.several:,} of {len(labels):,} files in {source.name} hold several pages or frames, of which the "
            "first was taken: to learn the others too, save each as a file of its own"
        )
    values = [Values(*one) for one in images.values]
    for line in (_understood(images, labels, source), *_warnings(images), *notices(values, source.name, stated)):
        yield printable(line)


def _understood(images: Manifest, labels: np.ndarray, source: Source) -> str:
    """What there is, in one line."""

    def some(count, noun):
        return f"{count:,} {noun}{'s' * (count != 1)}"

    counts = np.bincount(labels, minlength=len(images.labels))
    kinds = [
        f"{shortened(images.labels[i]) or 'without one'} {counts[i]:,}" for i in np.argsort(-counts, kind="stable")
    ]
    labelled = "no labels"
    if any(images.labels):
        labelled = f"{some(len(kinds), 'label')} ({', '.join(kinds[:5])}{', …' * (len(kinds) > 5)})"
    folders = f" in {some(source.folders, 'folder')}" if source.folders else ""
    drawn = f", {some(images.drawn, 'picture')} that dcgan_jax has drawn left out" if images.drawn else ""
    return (
        f"{source.name}: {some(len(labels), 'image')}{folders}, {labelled}, {len(images.skipped):,} skipped, "
        f"{images.copies:,} exact copies of others, {images.transparent:,} with transparent pixels"
        f"{_ground(images)}{drawn}"
    )


def _ground(images: Manifest) -> str:
    """What became of transparent pixels, where that is not what they were."""
    channels = images.shape[3]
    if has_alpha(channels) or not images.transparent:
        return ""
    return f", which show the background colour (a new run with --channels {channels + 1} keeps them transparent)"


def _warnings(images: Manifest) -> Iterator[str]:
    """What to expect of images that teach little."""
    count, channels = images.shape[0], images.shape[3]
    if has_alpha(channels) and not images.transparent:
        yield (
            f"no picture has transparent pixels, which --channels {channels} is for: --channels {channels - 1} learns "
            "the same with less work"
        )
    different = count - images.copies
    if images.copies > _MANY_COPIES * count:
        yield (
            f"warning: {images.copies:,} of {count:,} images are exact copies of others: expect these pictures to "
            "be drawn more often, and every figure to look better than it is, since copies are on both sides of a "
            "comparison; delete the copies, or keep them if this is meant"
        )
    if 1 < different < _FEW:  # a run refuses one alone
        yield (
            f"warning: {different:,} different images are few: expect these very images again, or parts of them, "
            f"rather than new ones; from {_FEW} on something can be learned, and thousands are better"
        )
