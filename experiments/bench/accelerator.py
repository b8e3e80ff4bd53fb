"""What is this machine's GPU worth? Everything there is to ask, in one command of less than ten minutes.

    python experiments/bench/accelerator.py --out runs/gpu
    python experiments/bench/accelerator.py --out runs/tiny --tiny     # tries out each part, on a CPU: 16x16, a few steps

It needs neither TensorFlow nor a network: JAX, Flax, optax, Orbax, tensorboardX, matplotlib, and for its recipe the
weights of EfficientNet-Lite0; PyTorch is compared with where it is installed. No part begins when ``--minutes`` are
over. Each may fail: the others go on, and the reason is in the results. In this order:

  parity         losses of the same steps on the GPU and on the CPU, with TF32 and without
  steps          images/s of each program, interleaved, at several batch sizes, and peak memory
  convolutions   how many of a step's convolutions cuDNN computes
  idle           how much of a step's time the GPU waits for the CPU to launch something, from a profile
  deterministic  whether two runs with --deterministic end with the same bits, and two without; what it costs
  loop           the whole of train: --dispatch and --device-data, on and off
  training       a minute each of classic and projected on the built-in sprites, with metrics and samples

Writes to OUT: results.json after each part, results.md, speed.png, and what the trainings drew.
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import step as bench

HERE = pathlib.Path(__file__)
RECIPES = "classic", "projected"  # whose losses and penalties are those of robust too
CLASSIC = [
    "dcgan_jax, float32",
    "dcgan_jax, bf16",
    "PyTorch as pytorch/examples, float32",
    "PyTorch channels_last, bf16, compiled",
]
OTHERS = [f"dcgan_jax --recipe {recipe}, {kind}" for recipe in ("robust", "projected") for kind in ("float32", "bf16")]


# --- parts that run in a process of their own: a function of the arguments that returns what JSON takes ------------


def config(arguments, recipe="classic", **changes):
    """A run of the built-in sprites; small ones if that is asked for."""
    from dcgan_jax.recipes import recipe as configured

    small = {"image_size": 16, "width": 4, "batch_size": 8} if arguments.tiny else {}
    return configured(recipe, data="sprites", **{**small, **changes})


def steps_of(arguments, recipe, count, **changes):
    """Losses after each of ``count`` steps on images of random bits, which are the same on every device."""
    import jax
    import numpy as np

    from dcgan_jax.gan.state import create_state
    from dcgan_jax.gan.step import train_step

    settings = config(arguments, recipe, **changes)
    shape = (settings.batch_size, settings.image_size, settings.image_size, 3)
    state, losses = create_state(settings), []
    for i in range(count):
        images = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
        state, metrics = train_step(state, jax.numpy.asarray(images), jax.random.key(i))
        losses.append({name: float(metrics[name]) for name in ("loss_D", "loss_G")})
    return losses


def losses(arguments):
    return {recipe: steps_of(arguments, recipe, 5) for recipe in RECIPES}


def profile(arguments):
    """The share of the time in which the GPU computes, at a small and a large batch, one step a dispatch."""
    import jax

    from dcgan_jax.gan.state import create_state
    from dcgan_jax.gan.step import train_step

    rows = []
    for batch in (8,) if arguments.tiny else (32, 1024):
        settings = config(arguments, batch_size=batch)
        images = jax.random.bits(jax.random.key(0), (batch, *[settings.image_size] * 2, 3), "uint8")
        state, key = create_state(settings), jax.random.key(0)

        def take(state, count):
            for _ in range(count):
                state, _ = train_step(state, images, key)  # noqa: B023 - called at once
            return jax.block_until_ready(state)

        state = take(state, 3)
        folder = pathlib.Path(arguments.out) / f"profile-{batch}"
        with jax.profiler.trace(str(folder)):
            state = take(state, 20)
        rows.append({"batch": batch, **busy(folder)})
        shutil.rmtree(folder)
    return rows


def busy(folder):
    """From the first to the last kernel of a profile: seconds, and the share of them in which a kernel runs."""
    import jax

    data = jax.profiler.ProfileData.from_file(str(next(folder.rglob("*.xplane.pb"))))
    spans = sorted(
        (event.start_ns, event.start_ns + event.duration_ns)
        for plane in data.planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    )
    if not spans:
        return {"kernels": 0}
    covered, end = 0, spans[0][0]
    for start, stop in spans:
        covered += max(stop - max(start, end), 0)
        end = max(end, stop)
    total = end - spans[0][0]
    return {"kernels": len(spans), "seconds": total / 1e9, "busy": covered / total}


def fingerprint(arguments):
    """The weights after some steps, as a hash, and the seconds of one step."""
    import jax

    from dcgan_jax.gan.state import create_state
    from dcgan_jax.gan.step import train_step
    from dcgan_jax.system.cache import cache_compilations

    cache_compilations()
    settings = config(arguments)
    images = jax.random.bits(jax.random.key(0), (settings.batch_size, *[settings.image_size] * 2, 3), "uint8")
    state, times = create_state(settings), []
    for i in range(5 if arguments.tiny else 50):
        start = time.perf_counter()
        state, _ = train_step(state, images, jax.random.key(i), deterministic=arguments.deterministic)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    weights = b"".join(jax.device_get(leaf).tobytes() for leaf in jax.tree.leaves(state.generator.params))
    return {"hash": hashlib.sha256(weights).hexdigest(), "seconds": statistics.median(times[2:])}


def train(arguments):
    """A run of so many seconds; a stop saves it."""
    from dcgan_jax import fit
    from dcgan_jax.system.errors import Stopped
    from dcgan_jax.system.memory import keep_freed_memory

    keep_freed_memory()
    evaluated = {"evaluate_every": 64} if arguments.tiny else {}
    settings = config(arguments, arguments.recipe, steps=10**6, checkpoint_every=10**5, sample_every=1000, **evaluated)
    try:
        fit(settings, arguments.out)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)


PARTS = {part.__name__: part for part in (losses, profile, fingerprint)}


# --- the parts as the command sees them ------------------------------------------------------------------------------


class Bench:
    """The results so far, and how much time is left."""

    def __init__(self, arguments):
        self.arguments, self.results, self.failed = arguments, {}, {}
        self.out = pathlib.Path(arguments.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self._end = time.monotonic() + 60 * arguments.minutes

    @property
    def left(self):
        return self._end - time.monotonic()

    def take(self, part):
        name, start = part.__name__, time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            if self.left < 20:
                raise RuntimeError("no time was left")
            self.results[name] = part(self)
        except (Exception, SystemExit) as error:  # the others go on
            self.failed[name] = str(error)[-2000:]
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        self.save()

    def save(self):
        text = json.dumps({**self.results, "failed": self.failed}, indent=1)
        (self.out / "results.json").write_text(text)
        (self.out / "results.md").write_text(markdown(self.results, self.failed))

    def run(self, part, *flags, **environment):
        """What the part returns, from a process of its own."""
        command = [sys.executable, str(HERE), "--part", part, "--out", str(self.out), *flags]
        command += ["--tiny"] if self.arguments.tiny else []
        done = subprocess.run(
            command, capture_output=True, text=True, env={**bench.ENVIRONMENT, **environment}, timeout=self.left
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return json.loads(done.stdout.splitlines()[-1])


def machine(run):
    from dcgan_jax.run.log import machine as described

    return described()


def parity(run):
    """The largest relative difference of a loss, of five steps of each recipe."""
    exact = {"NVIDIA_TF32_OVERRIDE": "0", "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"} if bench.GPU else {}
    with ThreadPoolExecutor() as threads:
        settings = {"CPU": {"JAX_PLATFORMS": "cpu"}, "TF32": {}, "float32": exact}
        found = {name: threads.submit(run.run, "losses", **environment) for name, environment in settings.items()}
        cpu, *devices = ((name, task.result()) for name, task in found.items())
    rows = []
    for name, losses in devices:
        for recipe, theirs in losses.items():
            apart = [
                [abs(a[kind] - b[kind]) / max(abs(b[kind]), 1e-6) for kind in a]
                for a, b in zip(theirs, cpu[1][recipe], strict=True)
            ]
            rows.append({"recipe": recipe, "products": name, "first": max(apart[0]), "fifth": max(apart[-1])})
    return rows


def steps(run):
    tiny = run.arguments.tiny
    names = CLASSIC[::2] if tiny else CLASSIC + OTHERS
    names = [name for name in names if name in bench.PROGRAMS and importlib.util.find_spec(bench.PROGRAMS[name][0])]
    rows = []
    for batch in (4,) if tiny else (128, 1024, 32, 4096, 512):
        before = time.monotonic()
        rows += bench.measure(batch, 1 if tiny else 5, 1 if tiny else max(4, 2048 // batch), names)
        run.results["steps"] = rows
        run.save()
        bench.draw(rows, run.out / "speed.png")
        if run.left < 300 + (time.monotonic() - before):  # the other parts take five minutes
            break
    return rows


def convolutions(run):
    if not bench.GPU:
        raise RuntimeError("there is no GPU")
    return {precision: bench.count_convolutions(precision) for precision in ("float32", "bf16")}


def idle(run):
    return run.run("profile")


def deterministic(run):
    rows = {
        flag: [run.run("fingerprint", flag) for _ in range(2)] for flag in ("--deterministic", "--no-deterministic")
    }
    return {
        flag: {"equal": a["hash"] == b["hash"], "seconds": min(a["seconds"], b["seconds"])}
        for flag, (a, b) in rows.items()
    }


def loop(run):
    if run.arguments.tiny:
        return [bench.loop(4, 20, None, False, "single")]
    modes = [(False, "single"), (False, "several"), (True, "several")]
    return [bench.loop(128, 400, None, *mode) for mode in modes]


def training(run):
    seconds, found = 20 if run.arguments.tiny else 60, {}
    for recipe in ("classic", "projected"):
        folder = run.out / f"run-{recipe}"
        command = [sys.executable, str(HERE), "--part", "train", "--out", str(folder), "--recipe", recipe]
        command += ["--tiny"] if run.arguments.tiny else []
        with (run.out / f"{recipe}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=bench.ENVIRONMENT)
            begun, metrics = None, folder / "metrics.jsonl"
            while process.poll() is None and run.left > 15 and (begun is None or time.monotonic() - begun < seconds):
                time.sleep(0.5)
                if begun is None and metrics.exists() and metrics.stat().st_size:  # the first steps are taken
                    begun = time.monotonic()
            process.terminate()
            try:
                process.wait(timeout=60)
            finally:
                process.kill()  # nothing if it has ended
        if begun is None:
            raise RuntimeError(f"{recipe}: {(run.out / f'{recipe}.log').read_text()[-1000:]}")
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        found[recipe] = {"last": lines[-1], "evaluations": [line for line in lines if "kid" in line]}
        shutil.copy(folder / "progress.png", run.out / f"{recipe}.png")
    return found


# --- what is printed ------------------------------------------------------------------------------------------------


def table(heads, rows):
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def markdown(results, failed):
    """All results, a table for each part."""
    here = results.get("machine", {})
    versions = ", ".join(f"{name} {version}" for name, version in here.get("versions", {}).items())
    texts = [f"# {here.get('device')}\n\n{here.get('processor')}, {here.get('cores')} cores; {versions}"]
    if rows := results.get("parity"):
        cells = [(r["recipe"], r["products"], f"{r['first']:.1e}", f"{r['fifth']:.1e}") for r in rows]
        heads = "recipe", "products", "losses of step 1, relative difference from the CPU's", "of step 5"
        texts.append(f"## Parity\n\n{table(heads, cells)}")
    if rows := results.get("steps"):
        cells = [
            (
                *(r["program"], r["batch"], f"{r['images_per_second']:.0f}"),
                *(f"{r['share']:.0%}" if r["program"] in CLASSIC else "", f"{r['peak_mib']:.0f}"),
            )
            for r in sorted(rows, key=lambda r: (r["batch"], r["program"]))
        ]
        heads = "program", "batch", "images/s", "of the rate of a large matrix product", "MiB"
        texts.append(f"## Steps\n\n{table(heads, cells)}")
    if counts := results.get("convolutions"):
        texts.append("## Convolutions by cuDNN\n\n" + "\n".join(f"- {kind}: {of}" for kind, of in counts.items()))
    if rows := results.get("idle"):
        cells = [(r["batch"], r["kernels"], f"{r['busy']:.0%}" if "busy" in r else "no GPU") for r in rows]
        texts.append(f"## Idle\n\n{table(('batch', 'kernels in 20 steps', 'time in which one runs'), cells)}")
    if rows := results.get("deterministic"):
        cells = [(flag, r["equal"], f"{1000 * r['seconds']:.2f}") for flag, r in rows.items()]
        texts.append(f"## The same bits twice\n\n{table(('flag', 'equal', 'ms a step'), cells)}")
    if rows := results.get("loop"):
        cells = [(r["feeding"], f"{r['images_per_second']:.0f}", f"{r['waiting']:.1%}") for r in rows]
        texts.append(f"## The loop\n\n{table(('fed', 'images/s', 'waiting for data'), cells)}")
    if runs := results.get("training"):
        cells = [
            (recipe, e["step"], *(f"{e[name]:.3g}" for name in ("kid", "fd", "recall", "coverage")))
            for recipe, r in runs.items()
            for e in r["evaluations"]
        ]
        texts.append(f"## Training\n\n{table(('recipe', 'step', 'KID', 'FD', 'recall', 'coverage'), cells)}")
    if failed:
        texts.append("## Failed\n\n" + "\n".join(f"- {part}: {reason}" for part, reason in failed.items()))
    return "\n\n".join(texts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps: does every part work here?")
    parser.add_argument("--only", nargs="+", metavar="PART", help="some of the parts above")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)
    parser.add_argument("--deterministic", action=argparse.BooleanOptionalAction, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "train":
        return train(arguments)
    if arguments.part:
        return print(json.dumps(PARTS[arguments.part](arguments)))
    run = Bench(arguments)
    for part in (machine, parity, steps, convolutions, idle, deterministic, loop, training):
        if part is machine or not arguments.only or part.__name__ in arguments.only:
            run.take(part)
    print((run.out / "results.md").read_text())


if __name__ == "__main__":
    main()
