"""Animations: frames in, one file out."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax.system.errors import InputError
from dcgan_jax.views.grid import picture

SUFFIXES = (".gif", ".webp", ".mp4")


def check_suffix(path: Path) -> None:
    """Refuse a file name that says no format, or one that cannot be written here.

    Raises:
      InputError: names the formats, or the package that is missing.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no .gif, .webp or .mp4: give --out one of these endings")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise InputError("MP4 needs a package more: pip install imageio-ffmpeg, or give --out a .gif or .webp")


def save_animation(path: Path, frames: Sequence[np.ndarray], *, fps: int) -> None:
    """Save an endless animation, or a video, in the format that the suffix says.

    Args:
      path: ends in one of ``SUFFIXES``.
      frames: uint8 (H, W, 1 or 3), all of one shape. Equal ones that follow each other cost next to nothing.
      fps: frames in a second; a GIF counts in hundredths of a second, and rounds.
    """
    if path.suffix == ".mp4":
        _save_mp4(path, frames, fps)
        return
    pictures = [picture(frame) for frame in frames]
    if path.suffix == ".webp":
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, quality=75, method=3
        )
        return
    # One palette for all frames, and no dithering: colours do not flicker, and what does not move takes no room.
    some = np.concatenate([np.asarray(p.convert("RGB")) for p in pictures[:: max(1, len(pictures) // 16)]])
    palette = Image.fromarray(some).quantize(256, method=Image.Quantize.MEDIANCUT)
    pictures = [p.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=10 * round(100 / fps), loop=0)


def _save_mp4(path, frames, fps):
    import imageio_ffmpeg

    h, w = frames[0].shape[:2]
    even = ((0, h % 2), (0, w % 2), (0, 0))  # H.264 with colours at half the resolution
    writer = imageio_ffmpeg.write_frames(str(path), (w + w % 2, h + h % 2), fps=fps, macro_block_size=2, quality=8)
    writer.send(None)
    for frame in frames:
        padded = np.pad(frame, even, constant_values=255)
        writer.send(np.ascontiguousarray(np.broadcast_to(padded, (*padded.shape[:2], 3))))
    writer.close()
