"""Make tests/releases/VERSION, a small run of the version that is checked out, which all later ones must read.

From the root of the checkout, once for each release, with the versions of constraints.txt:
python tests/releases/make.py
"""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

import dcgan_jax

sys.path.insert(0, str(Path(__file__).parents[1]))
from pictures import shape

SETTINGS = {
    "recipe": "classic",
    "image_size": 16, "channels": 1, "width": 4, "latent_dim": 8, "batch_size": 4,
    "steps": 6, "log_every": 1, "sample_every": 100, "checkpoint_every": 3, "evaluate_every": 12,
}  # fmt: skip


def command(name, *arguments):
    subprocess.run([sys.executable, "-m", f"dcgan_jax.{name}", "--workdir", *map(str, arguments)], check=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        place, out = Path(folder) / dcgan_jax.__version__, Path(folder) / "out"
        images, run = place / "images.zip", place / "run"
        place.mkdir()
        with zipfile.ZipFile(images, "w", zipfile.ZIP_DEFLATED) as archive:
            for kind in ("cross", "disc"):
                for i in range(60):
                    Image.fromarray(shape(kind, i)).convert("L").save(file := io.BytesIO(), "PNG")
                    archive.writestr(zipfile.ZipInfo(f"{kind}/{i:02d}.png"), file.getvalue())
        flags = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", value)]
        command("train", run, "--data", images, *flags)
        command("evaluate", run, "--num", 20)
        command("evaluate", run, "--num", 300, "--classes")
        command("export", run, "--out", out)
        command("generate", run, "--num", 1, "--out", out / "pictures")
        shutil.copy(out / "generator.safetensors", place)
        shutil.copy(out / "pictures" / "00000.png", place / "sample.png")
        for name in ("report.html", "progress.png", "evaluation.png", "classes.png"):  # made of the rest
            (run / name).unlink()
        settings = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({**settings, "data": images.name}, indent=2) + "\n")
        shutil.copytree(place, Path(__file__).with_name(place.name))


if __name__ == "__main__":
    main()
