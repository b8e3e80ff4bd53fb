"""Train, measure, export and publish the models that others can start from with ``train --init hf:USER/NAME``.

    python experiments/models.py --out models/                       # all: some hours; the same command goes on
    python experiments/models.py --out models/ --push USER           # and upload them to the Hugging Face Hub
    python experiments/models.py --out models/ --only creatures-64

Each has the settings that ``train`` takes for pictures of that size, so that ``--init`` needs no other flags than those
here, and a licence that lets us pass it on:

| name | its pictures | flags of a run that starts from it | licence |
|---|---|---|---|
| creatures-64 | 20,000 of ``sprites``, which this package draws | ``--init hf:USER/dcgan-creatures-64`` | MIT, ours |
| creatures-32 | the same | and ``--image-size 32 --width 32`` | MIT, ours |
| fashion-32 | 60,000 of Fashion-MNIST (Zalando SE) | and ``--image-size 32 --width 32 --channels 1`` | MIT, theirs |

Pictures whose licence does not allow it, such as box sprites or the chapter's, have no model here.

``models/NAME/run`` is the run, ``models/NAME/shared`` what is uploaded: with the discriminators, which ``--init`` takes too,
and weights in float16, which draw the same pictures but for one of 255 in a hundredth of the values. The model card has the
figures of ``evaluate``, and the licence. Nothing has been published yet: the project has no account on the Hub.

creatures-32 takes 25 minutes on one core of an AMD EPYC: FD 6.2, precision .80, recall .87, coverage .85 (real images: 1.1, .99,
.97, .97), and its file has 1.4 MB. creatures-64 has not been trained to its end: by docs/results/projected.md its 10,000
steps take about three hours on one core.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from dcgan_jax import evaluate, export, fit, recipe
from dcgan_jax.cli import endings
from dcgan_jax.system.memory import keep_freed_memory


@dataclasses.dataclass(frozen=True)
class Model:
    """A model: its settings beside those of the recipe ``projected``, and the licence of its pictures and weights."""

    settings: dict[str, Any]
    license: str = "mit"


SMALL = {"image_size": 32, "width": 32}
MODELS = {
    "creatures-64": Model({"data": "sprites", "steps": 10_000}),
    "creatures-32": Model({"data": "sprites", "steps": 10_000, **SMALL}),
    "fashion-32": Model({"data": "tfds:fashion_mnist:train", "steps": 10_000, "channels": 1, **SMALL}),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--push", metavar="USER", help="upload to USER/dcgan-NAME: log in with `hf auth login` before")
    parser.add_argument("--prefix", default="dcgan-", help="of the names there")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--recipe", default="projected")
    parser.add_argument("--changes", type=json.loads, default={}, help="of settings, as JSON: '{\"steps\": 20000}'")
    parser.add_argument("--num", type=int, default=2000, help="samples in each of the three sets of an evaluation")
    return parser.parse_args()


def make(name: str, args: argparse.Namespace) -> None:
    """Train a model, unless it is trained, measure its best step, and write or upload its files."""
    model, place = MODELS[name], args.out / name
    fit(recipe(args.recipe, **{**model.settings, **args.changes}), place / "run")
    print(f"{name}: {evaluate(place / 'run', num=args.num).figures}")
    pushed = {"push": f"{args.push}/{args.prefix}{name}", "license": model.license} if args.push else {}
    files = export(place / "run", place / "shared", discriminator=True, precision="float16", **pushed)
    print("\n".join(f"{path}  {path.stat().st_size / 1e6:.1f} MB" for path in files))


def main() -> None:
    args = arguments()
    for name in args.only:
        make(name, args)


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
