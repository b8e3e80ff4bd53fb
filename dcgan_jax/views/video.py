"""Animations: frames in, one file out."""

import importlib.util
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax.config import has_alpha
from dcgan_jax.data.listing import DRAWN
from dcgan_jax.gan.pixels import opaque
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import replacing
from dcgan_jax.views.grid import picture

SUFFIXES = (".gif", ".webp", ".mp4")
_CLEAR = 255  # the colour of a GIF's palette that is transparent


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
      frames: uint8 (H, W, 1 to 4), all of one shape. Equal ones that follow each other cost next to nothing. With alpha
        a WebP is transparent; so is a GIF, whose pixels are opaque or not at all, from an alpha of one half on; and an
        MP4 shows them on white.
      fps: frames in a second; a GIF counts in hundredths of a second, and rounds.
    """
    with replacing(path) as file:
        if path.suffix == ".mp4":
            _save_mp4(file, frames, fps)
        elif path.suffix == ".webp":
            _save_webp(file, frames, fps)
        else:
            _save_gif(file, frames, fps)


def _save_webp(file, frames, fps):
    pictures = [picture(frame) for frame in frames]
    how = {"duration": round(1000 / fps), "loop": 0, "quality": 75, "method": 3, "xmp": DRAWN}
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], **how)


def _save_gif(file, frames, fps):
    clear = [frame[..., -1] < 128 if has_alpha(frame.shape[-1]) else None for frame in frames]
    colours = [frame if hole is None else frame[..., :-1] * ~hole[..., None] for frame, hole in zip(frames, clear)]
    pictures = [picture(frame).convert("RGB") for frame in colours]
    # One palette for all frames, and no dithering: colours do not flicker, and what does not move takes no room.
    some = np.concatenate([np.asarray(p) for p in pictures[:: max(1, len(pictures) // 16)]])
    palette = Image.fromarray(some).quantize(256 if clear[0] is None else _CLEAR, method=Image.Quantize.MEDIANCUT)
    pictures = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    how = {"duration": 10 * round(100 / fps), "loop": 0, "comment": DRAWN}
    if clear[0] is not None:
        pictures = [_with_holes(one, hole) for one, hole in zip(pictures, clear)]
        how |= {"transparency": _CLEAR, "disposal": 2}
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], **how)


def _with_holes(image, hole):
    """A picture with a palette that ends before ``_CLEAR``, which becomes the colour of its holes."""
    holed = Image.fromarray(np.where(hole, np.uint8(_CLEAR), np.asarray(image)))
    holed.putpalette(image.getpalette())
    return holed


def _save_mp4(file, frames, fps):
    import imageio_ffmpeg  # pyright: ignore[reportMissingImports] - an extra

    h, w = (side + side % 2 for side in frames[0].shape[:2])  # H.264 has colours at half the resolution
    video = np.full((len(frames), h, w, 3), 255, np.uint8)
    for shown, frame in zip(video, map(opaque, frames)):
        shown[: frame.shape[0], : frame.shape[1]] = frame
    raw = f"-f rawvideo -pix_fmt rgb24 -s {w}x{h} -r {fps} -i -"
    command = f"-y -loglevel error {raw} -c:v libx264 -crf 20 -pix_fmt yuv420p -movflags +faststart -f mp4".split()
    program = [imageio_ffmpeg.get_ffmpeg_exe(), *command, str(Path(file.name).absolute())]
    done = subprocess.run(program, input=video.tobytes(), capture_output=True)
    if done.returncode:
        raise InputError(f"cannot write an MP4 file: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
