"""Can the metrics be trusted? Damage real images more and more, and see what each metric says.

    python experiments/bench/ruler.py [--data tfds:cifar10 sprites] [--sizes 1000 2000 5000 10000] [--agreement-only]

Half of the images stand for the reals, damaged images of the other half for samples. Six kinds of damage, four
strengths each. For each data set it prints two Markdown tables, and draws docs/images/ruler.png:

1. Spearman's rank correlation of each metric in the classifier's features with the same in ImageNet features, over
   the 24 damaged sets and the undamaged one, n = 1,000; also for other features from the same weights: depths, with
   each channel scaled to deviation 1 or not, fitted on the first data set (CIFAR-10).
2. The weakest strength that each metric tells from the floor, for each n: it is worse than the mean of five floors
   (other halves) by three of their deviations, and so is every stronger one. A star: it does not grow at every step.

KID takes 20 subsets here. SWD looks at 500 images, at the smallest n only. What was measured is kept in the cache.
Two cores, shared: about ten minutes of CPU time for each data set. Result: docs/results/metrics.md, where the ImageNet
features are those of EfficientNet-Lite0; they are Lite2's now.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from scipy.ndimage import gaussian_filter1d
from scipy.stats import spearmanr

from dcgan_jax.cli import endings
from dcgan_jax.config import Config
from dcgan_jax.data.split import disjoint_halves
from dcgan_jax.data.store import open_store
from dcgan_jax.metrics import features as ours
from dcgan_jax.metrics.distances import (
    diversity_ratio,
    frechet_distance,
    kernel_distance,
    prdc,
    principal_components,
)
from dcgan_jax.metrics.image_distances import sliced_wasserstein
from dcgan_jax.metrics.imagenet import imagenet
from dcgan_jax.system.cache import cache_folder

DAMAGE = {
    "noise, deviation in levels of 255": (2, 5, 12, 30),
    "blur, deviation in pixels": (0.3, 0.5, 0.8, 1.3),
    "checkerboard, ± levels": (2, 5, 12, 30),
    "kinds left out, share": (0.1, 0.3, 0.5, 0.7),
    "copies, share of images": (0.1, 0.3, 0.6, 0.9),
    "halves of two images joined, share": (0.1, 0.3, 0.6, 1.0),
}
BETTER = {"precision": -1, "recall": -1, "density": -1, "coverage": -1, "diversity": 0, "fd": 1, "kid": 1, "swd": 1}
FLOORS, SWD_IMAGES, AGREE = 5, 500, 1000


def damage(kind, strength, images, rng):
    """Damage pixels: uint8 (N, H, W, C), or None where images are left out or repeated instead."""
    part = images.astype(np.float32)
    if kind.startswith("noise"):
        part += strength * rng.standard_normal(part.shape, np.float32)
    elif kind.startswith("blur"):
        for axis in (1, 2):
            part = gaussian_filter1d(part, strength, axis=axis, mode="nearest")
    elif kind.startswith("checkerboard"):
        part += strength * (np.indices(part.shape[1:3]).sum(0) % 2 * 2 - 1)[:, :, None].astype(np.float32)
    elif kind.startswith("halves"):
        joined, half = np.arange(len(part)) % 10 < 10 * strength, part.shape[2] // 2
        part[joined, :, half:] = np.roll(part, 5, axis=0)[joined, :, half:]
    else:
        return None
    return np.clip(np.round(part), 0, 255).astype(np.uint8)


def kept(kind, strength, labels, n):
    """Which images make up a set of n."""
    if kind.startswith("kinds"):
        kinds = np.unique(labels)
        return np.resize(np.flatnonzero(labels >= kinds[round(strength * len(kinds))]), n)
    return np.resize(np.arange(round(n * (1 - strength) if kind.startswith("copies") else n)), n)


class Bench:
    """One data set in halves: reals, and others that are damaged.

    Attributes:
      sets: the 21 sets by (kind, strength): their damaged images, or None.
    """

    def __init__(self, data, n):
        config = Config(data=data, image_size=32 if "cifar" in data else 64)
        store = open_store(config)
        first, second = disjoint_halves(len(store), store.labels)
        self.n = min(n, len(first) // 2)  # of twice as many, some kinds can be left out
        self.name, self.labels = Path(data).stem.removeprefix("tfds:"), store.labels[second]
        self.reals, self.others = store.take(first[: self.n]), store.take(second[: 4 * self.n])
        self.sets = {}
        for kind, strength in keys():
            rng = np.random.default_rng(len(self.sets))
            self.sets[kind, strength] = damage(kind, strength, self.others[: self.n], rng)

    def see(self, vectors, n):
        """What ``vectors`` makes of n reals, of the others, and of each damaged set."""
        plain = vectors(self.others[: 4 * n])
        seen = {key: plain if images is None else vectors(images[:n]) for key, images in self.sets.items()}
        return vectors(self.reals[:n]), seen

    def measured(self, seen, n, swd=False):
        """The metrics of each set at n, and of the floors."""
        reals, sets = seen
        found = {}
        for key, vectors in sets.items():
            indices = kept(*key, self.labels[: len(sets["none", 0])], n)
            found[key] = measure(reals[:n], vectors[indices])
            if swd:
                images = self.others if self.sets[key] is None else self.sets[key]
                found[key]["swd"] = swd_of(self.reals, images[indices])
        both = np.concatenate([reals[:n], sets["none", 0][:n]])
        images = np.concatenate([self.reals[:n], self.others[:n]])
        floors = [found["none", 0]]
        for seed in range(1, FLOORS):
            order = np.random.default_rng(seed).permutation(len(both))
            floors.append(measure(both[order[:n]], both[order[n:]]))
            if swd:
                floors[-1]["swd"] = swd_of(images[order[:n]], images[order[n:]])
        return found, floors


def measure(reals, fakes):
    return {
        "fd": frechet_distance(reals, fakes),
        "kid": kernel_distance(reals, fakes, subsets=20),
        **prdc(reals, fakes)._asdict(),
        "diversity": diversity_ratio(reals, fakes),
    }


def swd_of(reals, fakes):
    return sliced_wasserstein(reals[:SWD_IMAGES], fakes[:SWD_IMAGES])["mean"]


def badness(name, value):
    return BETTER[name] * value if BETTER[name] else abs(value - 1)


def pooled(weights):
    """From images to the channel means of the three depths, (N, 256)."""
    state = {name: weights[name] for name in ("params", "batch_stats")}
    apply = jax.jit(lambda chunk: ours.FeatureNetwork().apply(state, ours.enlarged(chunk, ours.SIZE))[0])
    return lambda images: ours.of_images(apply, images)


def through(function, seen):
    reals, sets = seen
    return function(reals), {key: function(vectors) for key, vectors in sets.items()}


def variants(plain, weights):
    """Other features from the pooled ones, by name: functions, fitted on ``plain``, (N, 256) of CIFAR-10."""
    first, second, _ = ours.FeatureNetwork.widths
    depths = {
        "first two depths": slice(0, first + second),
        "last two depths": slice(first, None),
        "last depth": slice(first + second, None),
        "all three depths": slice(None),
    }
    matrix, mean = (weights["projection"][name] for name in ("matrix", "mean"))
    found = {"as installed": lambda x: (x - mean) @ matrix}
    for name, part in depths.items():
        for scaled in (True, False):
            deviation = plain[:, part].std(0) + 1e-6 if scaled else 1.0
            count = min(ours.DIMENSIONS, plain[:, part].shape[1])
            centre, directions = principal_components(plain[:, part] / deviation, count)
            found[f"{name}, {'scaled' if scaled else 'not scaled'}"] = (
                lambda x, part=part, deviation=deviation, centre=centre, directions=directions: (
                    (x[:, part] / deviation - centre) @ directions
                )
            )
    return found


def correlation(a, b, name):
    a, b = ([badness(name, found[name]) for found in one.values()] for one in (a, b))
    return spearmanr(a, b).statistic


def agreement(bench, seen, theirs, functions):
    """Rows (features, correlation of each metric with that in ImageNet features, mean)."""
    n = AGREE
    centre, directions = principal_components(theirs[0], ours.DIMENSIONS)
    theirs = bench.measured(through(lambda x: (x - centre) @ directions, theirs), n)[0]
    for name, function in functions.items():
        mine = bench.measured(through(function, seen), n)[0]
        found = [correlation(mine, theirs, metric) for metric in BETTER if metric != "swd"]
        yield name, [*found, np.mean(found)]


def sensitivity(found, floors):
    """For each metric and kind: (the weakest strength that is seen, or None; does it grow at each step)."""
    for name in BETTER:
        if name not in found["none", 0]:
            continue
        floor = [badness(name, of[name]) for of in floors]
        limit = np.mean(floor) + 3 * np.std(floor, ddof=1)
        for kind, strengths in DAMAGE.items():
            values = [badness(name, found[kind, strength][name]) for strength in strengths]
            unseen = [i for i, value in enumerate(values) if value <= limit]
            first = unseen[-1] + 1 if unseen else 0
            seen = strengths[first] if first < len(strengths) else None
            yield name, kind, seen, bool(np.all(np.diff([np.mean(floor), *values]) > 0))


def draw(results, path):
    """Each metric against the strength of each kind of damage; the grey band is the floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * len(BETTER), 2.2 * len(results)), layout="constrained")
    grid = figure.subplots(len(results), len(BETTER), squeeze=False)
    for row, (name, (sets, floors)) in zip(grid, results.items()):
        found = dict(zip(keys(), sets))
        for axes, metric in zip(row, BETTER):
            floor = [of[metric] for of in floors]
            axes.axhspan(min(floor), max(floor), color="0.8")
            for kind, strengths in DAMAGE.items():
                values = [np.mean(floor), *(found[kind, strength][metric] for strength in strengths)]
                axes.plot(values, marker=".", linewidth=1, markersize=3, label=kind.split(",")[0])
            if metric in ("fd", "kid", "swd"):
                axes.set_yscale("symlog", linthresh=max(abs(np.mean(floor)), 1e-3))
            axes.set_title(f"{metric}, {name}", fontsize=8)
            axes.tick_params(labelsize=6)
            axes.set_xticks(range(5))
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(DAMAGE), fontsize=8)
    figure.savefig(path, dpi=75)


def study(data, sizes, weights, agreement_only, cifar):
    """What is measured on one data set, as JSON: rows of the agreement, and for each n the sets and the floors."""
    bench = Bench(data, AGREE if agreement_only else max(sizes))
    seen = bench.see(pooled(weights), bench.n)
    functions = variants(seen[1]["none", 0] if cifar is None else cifar, weights)
    found = {"agreement": dict(agreement(bench, seen, imagenet_of(bench), functions)), "sizes": {}}
    seen = through(functions["as installed"], seen)
    for n in [] if agreement_only else [n for n in sizes if n <= bench.n]:
        sets, floors = bench.measured(seen, n, swd=n == min(sizes))
        found["sizes"][str(n)] = [list(sets.values()), floors]
        print(f"{data}: n = {n} measured", file=sys.stderr)
    return found


def rows(head, lines):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")


def tell(name, found):
    """The tables of one data set."""
    print(f"\n{name}: rank correlation with ImageNet features, n = {AGREE}\n")
    metrics = [metric for metric in BETTER if metric != "swd"]
    rows(["features", *metrics, "mean"], [[k, *(f"{v:.2f}" for v in row)] for k, row in found["agreement"].items()])
    if not found["sizes"]:
        return
    table = {}
    for sets, floors in found["sizes"].values():
        for metric, kind, strength, grows in sensitivity(dict(zip(keys(), sets)), floors):
            cell = "–" if strength is None else f"{strength:g}"
            table.setdefault((metric, kind), []).append(cell + "*" * (not grows))
    print(f"\n{name}: weakest damage seen at n = {', '.join(found['sizes'])}\n")
    rows(["metric", *DAMAGE], [[metric, *(" ".join(table[metric, kind]) for kind in DAMAGE)] for metric in BETTER])


def keys():
    return [("none", 0), *((kind, strength) for kind, strengths in DAMAGE.items() for strength in strengths)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["tfds:cifar10", "sprites"], help="CIFAR-10 first")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 2000, 5000, 10000])
    parser.add_argument("--weights", type=Path, default=ours._WEIGHTS, help="a features.npz")
    parser.add_argument("--agreement-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "images" / "ruler.png")
    args = parser.parse_args()
    with np.load(args.weights, allow_pickle=False) as file:
        weights = unflatten_dict({name: file[name].astype(np.float32) for name in file.files}, sep="/")
    settings = repr((args.sizes, args.agreement_only, DAMAGE)).encode()
    digest = hashlib.sha256(args.weights.read_bytes() + imagenet().digest + settings)
    cifar, results = None, {}
    for data in args.data:
        name = Path(data).stem.removeprefix("tfds:")
        kept = cache_folder() / f"ruler-{name}-{digest.hexdigest()[:16]}.json"
        if not kept.exists():
            if data != args.data[0] and cifar is None:
                cifar = pooled(weights)(Bench(args.data[0], AGREE).others)
            kept.write_text(json.dumps(study(data, args.sizes, weights, args.agreement_only, cifar)))
        found = json.loads(kept.read_text())
        tell(name, found)
        if found["sizes"]:
            results[name] = found["sizes"][str(min(args.sizes))]
    if results:
        draw(results, args.out)


def imagenet_of(bench):
    """ImageNet features, which are kept: they do not change when ours do."""
    features = imagenet()
    path = cache_folder() / "features" / f"ruler-{bench.name}-{features.digest.hex()[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        reals, sets = bench.see(features.vectors, AGREE)
        np.savez(path, reals, *sets.values())
    with np.load(path) as file:
        reals, *sets = (file[name] for name in file.files)
    return reals, dict(zip(bench.sets, sets, strict=True))


if __name__ == "__main__":
    with endings():
        main()
