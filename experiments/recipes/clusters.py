"""Do classes that are clusters help where there are no labels? Writes the images of a set, each with a label.

    python experiments/recipes/clusters.py --data BOXES --image-size 32 --clusters 10 --out runs/boxes.npz
    python experiments/recipes/study.py --out runs/clusters --data boxes=runs/boxes.npz:32 --recipes robust \\
        "robust --conditional" --images 64000 --flags "--width 32"

The label is the nearest of k means of the CIFAR classifier's features, of which the first 64 principal components are
taken. Writes a picture beside the file, a row for each cluster: those nearest to its mean.
"""

import argparse
import contextlib
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from dcgan_jax import Config, open_store
from dcgan_jax.cli import endings
from dcgan_jax.metrics.distances import principal_components
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.views.grid import grid, save_png

SHOWN = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="anything that train takes")
    parser.add_argument("--image-size", default="32")
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a .npz")
    args = parser.parse_args()
    with contextlib.closing(open_store(Config(data=args.data, image_size=args.image_size))) as store:
        images = store.take_uint8(range(len(store)))
    vectors = CIFAR.vectors(images)
    mean, axes = principal_components(vectors, 64)
    vectors = (vectors - mean) @ axes
    means, labels = kmeans2(vectors, args.clusters, minit="++", seed=args.seed)
    nearest = [np.argsort(row)[:SHOWN] for row in cdist(means, vectors)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, images=images, labels=labels)
    save_png(args.out.with_suffix(".png"), grid(images[np.concatenate(nearest)], columns=SHOWN))
    print("images in each cluster:", *np.bincount(labels, minlength=args.clusters))


if __name__ == "__main__":
    with endings():
        main()
