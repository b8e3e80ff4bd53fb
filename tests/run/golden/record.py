"""Record the metrics of runs that are ill, and of one that is not, for ``test_doctor.py``.

    python tests/run/golden/record.py [NAME ...]

Each is a real run on the built-in sprites at 16x16, or on some of them, a few minutes on two cores. What is kept in
NAME.jsonl: the lines of evaluations, and the newest ``doctor.LINES``.
"""

import json
import sys
import tempfile
from pathlib import Path

from dcgan_jax import Config, fit
from dcgan_jax.data.store import open_store
from dcgan_jax.run.doctor import LINES
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.views.grid import save_png

HERE = Path(__file__).parent
BASE = {
    "image_size": 16,
    "augment": "off",
    "width": 16,
    "latent_dim": 32,
    "evaluate_every": 3200,
    "sample_every": 10**6,
    "checkpoint_every": 10**6,
}
RUNS = {  # images, settings
    "healthy": (20_000, {"steps": 1000}),
    "few": (300, {"steps": 1000}),
    "won": (20_000, {"steps": 600, "learning_rate": 0.05, "beta1": 0.9}),
    "collapse": (20_000, {"steps": 600, "learning_rate": 0.5}),
    "plateau": (60, {"steps": 3000, "learning_rate": 2e-3}),
    "memory": (660, {"steps": 2500, "width": 48, "learning_rate": 1e-3}),
    "gradients": (20_000, {"steps": 300, "batchnorm_scale_mean": 50.0}),
}


def main(names):
    for name in names or RUNS:
        count, settings = RUNS[name]
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "data"
            data.mkdir()
            store = open_store(Config(image_size=16))
            for i in range(count):
                save_png(data / f"{i:05d}.png", store.take([i])[0])
            fit(Config(**{**BASE, **settings, "data": str(data)}), Path(scratch) / "run")
            lines = RunFolder(Path(scratch) / "run").read_metrics()
            kept = [line for line in lines[:-LINES] if "kid" in line] + lines[-LINES:]
        rounded = [
            {key: float(f"{value:.5g}") for key, value in line.items()} | {"step": line["step"]} for line in kept
        ]
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounded))


if __name__ == "__main__":
    main(sys.argv[1:])
