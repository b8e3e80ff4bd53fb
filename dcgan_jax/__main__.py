"""List the commands, or call one: ``python -m dcgan_jax train --workdir runs/``, ``dcgan-jax train ...``."""

import importlib
import sys

from dcgan_jax.cli import versions

COMMANDS = {
    "train": "train a DCGAN, or resume a run",
    "generate": "draw images from a trained run",
    "project": "find the z of a picture, and interpolate between two pictures",
    "evaluate": "measure how good the images of a run are",
    "score": "say which pictures are unusual for a run",
    "report": "show a run, or two side by side, as one page",
    "animate": "make a video of a run's images or of its training",
    "export": "share a generator: a page that draws images, safetensors, ONNX",
}


def main() -> None:
    """Call the command that the first argument names, with the other arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        sys.argv[:2] = [f"dcgan-jax {name}"]
        importlib.import_module(f"dcgan_jax.{name}").main()
        return
    lines = "\n".join(f"  {command:<10}{what}" for command, what in COMMANDS.items())
    text = f"usage: dcgan-jax COMMAND ...\n\n{lines}\n\ndcgan-jax COMMAND --help lists its flags."
    if name == "--version":
        print(versions())
        return
    if name not in ("--help", "-h"):
        print(f"error: there is no command {name!r}\n{text}", file=sys.stderr)
        raise SystemExit(2)
    print(text)


if __name__ == "__main__":
    main()
