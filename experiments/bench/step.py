"""How fast is a training step, beside the others on the same machine?

    python experiments/bench/step.py --out runs/bench                          # CPU: batch 32, 64 and 128
    python experiments/bench/step.py --out runs/bench --batch-sizes 32 128 512 1024 4096 --steps 20     # GPU

Times one full DCGAN-64 training step (width 64, latent 100, RGB; D on real, D on generated, Adam, G through
the updated D, Adam) of every program that is installed, then the whole of ``dcgan_jax.train`` with each way
to feed it, drawing samples, and the start of the commands. Each program lives in a process of its own with its own
default settings, and they take turns, one round at a time, so that a machine that slows down slows all of them.
Prints Markdown; writes ``OUT.json``, and ``OUT.png``, images/s against the batch size. On a GPU it also counts
the convolutions that cuDNN takes over.
"""

import argparse
import collections
import importlib.metadata
import importlib.util
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

FLOP_PER_IMAGE = 2.29e9  # of a direct algorithm: 11 forward-pass equivalents of 104 million multiply-adds
GPU = os.path.exists("/dev/nvidiactl")  # there whichever card it is
if GPU:  # all programs are there at once: none may take the whole memory
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
ENVIRONMENT = dict(os.environ)  # before dcgan_jax, which quiets TensorFlow by switching its oneDNN off, is imported


# --- the programs: each builds a function that takes one step and waits for its end ------------------


def ours(batch, recipe="classic", *, matrix_units=True, **changes):
    """A step of dcgan_jax; on a CPU with matrix units for bf16, also without these."""
    import dataclasses

    import jax

    from dcgan_jax.gan.state import create_state
    from dcgan_jax.gan.step import train_step
    from dcgan_jax.recipes import RECIPES
    from dcgan_jax.system import native
    from dcgan_jax.system.cache import cache_compilations

    if not matrix_units:
        native.cpu_flags = frozenset
    cache_compilations()
    config = dataclasses.replace(RECIPES[recipe].config, batch_size=batch, **changes)
    state, key = create_state(config), jax.random.key(0)
    images = jax.random.bits(key, (batch, 64, 64, 3), "uint8")

    def step():
        nonlocal state
        state, metrics = train_step(state, images, key)
        return metrics

    return step, jax.block_until_ready


def flax(batch):
    """As a reader of the paper would write it: linen's own layers, autodiff, one jitted step."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    init = nn.initializers.normal(0.02)

    class G(nn.Module):
        @nn.compact
        def __call__(self, z):
            x = z[:, None, None]
            for i, width in enumerate((512, 256, 128, 64)):
                padding, strides = ("VALID", (1, 1)) if i == 0 else ("SAME", (2, 2))
                x = nn.ConvTranspose(width, (4, 4), strides, padding, use_bias=False, kernel_init=init)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9)(x))
            return jnp.tanh(nn.ConvTranspose(3, (4, 4), (2, 2), "SAME", use_bias=False, kernel_init=init)(x))

    class D(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i, width in enumerate((64, 128, 256, 512)):
                x = nn.Conv(width, (4, 4), (2, 2), padding=1, use_bias=False, kernel_init=init)(x)
                x = x if i == 0 else nn.BatchNorm(use_running_average=False, momentum=0.9)(x)
                x = nn.leaky_relu(x, 0.2)
            return nn.Conv(1, (4, 4), padding="VALID", use_bias=False, kernel_init=init)(x).ravel()

    key = jax.random.key(0)
    images = jax.random.uniform(key, (batch, 64, 64, 3), minval=-1)
    g_vars, d_vars = G().init(key, jnp.zeros((2, 100))), D().init(key, images[:2])
    adam = optax.adam(2e-4, b1=0.5)
    cross_entropy = optax.sigmoid_binary_cross_entropy

    @jax.jit
    def train_step(g_vars, d_vars, g_opt, d_opt, key):
        z = jax.random.normal(key, (batch, 100))

        def d_loss(params, stats):
            fake, _ = G().apply(g_vars, z, mutable=["batch_stats"])
            real_logits, new = D().apply({"params": params, **stats}, images, mutable=["batch_stats"])
            fake_logits, new = D().apply({"params": params, **new}, fake, mutable=["batch_stats"])
            return (
                cross_entropy(real_logits, 1.0 + 0 * real_logits).mean()
                + cross_entropy(fake_logits, 0 * fake_logits).mean()
            ) / 2, new

        d_params, g_params = d_vars["params"], g_vars["params"]
        (loss_d, d_stats), grads = jax.value_and_grad(d_loss, has_aux=True)(
            d_params, {"batch_stats": d_vars["batch_stats"]}
        )
        updates, d_opt = adam.update(grads, d_opt)
        d_params = optax.apply_updates(d_params, updates)

        def g_loss(params):
            fake, new = G().apply({"params": params, "batch_stats": g_vars["batch_stats"]}, z, mutable=["batch_stats"])
            logits, d_new = D().apply({"params": d_params, **d_stats}, fake, mutable=["batch_stats"])
            return cross_entropy(logits, 1.0 + 0 * logits).mean(), (new, d_new)

        (loss_g, (g_stats, d_stats)), grads = jax.value_and_grad(g_loss, has_aux=True)(g_params)
        updates, g_opt = adam.update(grads, g_opt)
        g_params = optax.apply_updates(g_params, updates)
        return {"params": g_params, **g_stats}, {"params": d_params, **d_stats}, g_opt, d_opt, (loss_d, loss_g)

    carry = (g_vars, d_vars, adam.init(g_vars["params"]), adam.init(d_vars["params"]))

    def step():
        nonlocal carry
        *carry, losses = train_step(*carry, key)
        return losses

    return step, jax.block_until_ready


def pytorch(batch, channels_last=False, bf16=False, compiled=False, *, feed=None, networks=None):
    """The loop of pytorch/examples' DCGAN.

    ``feed`` returns the images of each step, in place of the same random ones; ``networks`` gets the two networks.
    """
    import torch
    from torch import nn

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, discriminator, channels = [], [], 100
    for i, width in enumerate((512, 256, 128, 64)):
        geometry = (1, 0) if i == 0 else (2, 1)
        generator += [
            nn.ConvTranspose2d(channels, width, 4, *geometry, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
        ]
        channels = width
    generator += [nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh()]
    channels = 3
    for i, width in enumerate((64, 128, 256, 512)):
        discriminator += [nn.Conv2d(channels, width, 4, 2, 1, bias=False)]
        discriminator += [nn.BatchNorm2d(width)] if i else []
        discriminator += [nn.LeakyReLU(0.2, inplace=True)]
        channels = width
    discriminator += [nn.Conv2d(channels, 1, 4, 1, 0, bias=False)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    G = nn.Sequential(*generator).to(device, memory_format=layout)
    D = nn.Sequential(*discriminator).to(device, memory_format=layout)
    for p in (*G.parameters(), *D.parameters()):
        nn.init.normal_(p, 1.0 if p.ndim == 1 else 0.0, 0.02)
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (D, G)]
    same = (torch.rand(batch, 3, 64, 64, device=device) * 2 - 1).contiguous(memory_format=layout)
    if networks is not None:
        networks |= {"G": G, "D": D}
    loss = nn.BCEWithLogitsLoss()
    G_, D_ = (torch.compile(G), torch.compile(D)) if compiled else (G, D)

    def step():
        images = same if feed is None else feed()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            D.zero_grad()
            logits = D_(images).flatten()
            loss(logits, torch.ones_like(logits)).backward()
            fake = G_(torch.randn(batch, 100, 1, 1, device=device))
            logits = D_(fake.detach()).flatten()
            loss(logits, torch.zeros_like(logits)).backward()
            optimizers[0].step()
            G.zero_grad()
            logits = D_(fake).flatten()
            loss(logits, torch.ones_like(logits)).backward()
            optimizers[1].step()

    return step, lambda _: torch.cuda.synchronize() if device.type == "cuda" else None


def keras(batch):
    import keras
    import tensorflow as tf
    from keras import layers

    init = keras.initializers.RandomNormal(stddev=0.02)
    G, D = [keras.Input((100,)), layers.Reshape((1, 1, 100))], [keras.Input((64, 64, 3))]
    for i, width in enumerate((512, 256, 128, 64)):
        geometry = (1, "valid") if i == 0 else (2, "same")
        G += [layers.Conv2DTranspose(width, 4, *geometry, use_bias=False, kernel_initializer=init)]
        G += [layers.BatchNormalization(momentum=0.9, epsilon=1e-5), layers.ReLU()]
    G += [layers.Conv2DTranspose(3, 4, 2, "same", use_bias=False, kernel_initializer=init, activation="tanh")]
    for i, width in enumerate((64, 128, 256, 512)):
        D += [layers.Conv2D(width, 4, 2, "same", use_bias=False, kernel_initializer=init)]
        D += [layers.BatchNormalization(momentum=0.9, epsilon=1e-5)] if i else []
        D += [layers.LeakyReLU(negative_slope=0.2)]
    D += [layers.Conv2D(1, 4, use_bias=False, kernel_initializer=init), layers.Flatten()]
    G, D = keras.Sequential(G), keras.Sequential(D)
    d_adam, g_adam = (keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2))
    images = tf.random.uniform((batch, 64, 64, 3), -1, 1)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step():
        z = tf.random.normal((batch, 100))
        with tf.GradientTape() as tape:
            fake = G(z, training=True)
            with tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits, fake_logits = D(images, training=True), D(fake, training=True)
                loss_d = (
                    loss(tf.ones_like(real_logits), real_logits) + loss(tf.zeros_like(fake_logits), fake_logits)
                ) / 2
            with tape.stop_recording():
                d_adam.apply_gradients(zip(d_tape.gradient(loss_d, D.trainable_variables), D.trainable_variables))
            logits = D(fake, training=True)
            loss_g = loss(tf.ones_like(logits), logits)
        g_adam.apply_gradients(zip(tape.gradient(loss_g, G.trainable_variables), G.trainable_variables))
        return loss_g

    return step, lambda result: result.numpy()


PROGRAMS = {
    "dcgan_jax, float32": ("jax", ours),
    "dcgan_jax, bf16": ("jax", lambda b: ours(b, precision="bf16")),
    "dcgan_jax, bf16, matrix units left out": ("jax", lambda b: ours(b, precision="bf16", matrix_units=False)),
    "dcgan_jax --augment full, float32": ("jax", lambda b: ours(b, augment="full")),
    "dcgan_jax --recipe sn, float32": ("jax", lambda b: ours(b, "sn")),
    "dcgan_jax --recipe robust, float32": ("jax", lambda b: ours(b, "robust")),
    "dcgan_jax --recipe robust, bf16": ("jax", lambda b: ours(b, "robust", precision="bf16")),
    "dcgan_jax --recipe projected, float32": ("jax", lambda b: ours(b, "projected")),
    "dcgan_jax --recipe projected, bf16": ("jax", lambda b: ours(b, "projected", precision="bf16")),
    "Flax, the obvious program, float32": ("flax", flax),
    "PyTorch as pytorch/examples, float32": ("torch", pytorch),
    "PyTorch channels_last, float32": ("torch", lambda b: pytorch(b, channels_last=True)),
    "PyTorch channels_last, bf16 autocast": ("torch", lambda b: pytorch(b, channels_last=True, bf16=True)),
    "Keras, tf.function, float32": ("keras", keras),
}
if GPU:
    PROGRAMS["PyTorch channels_last, bf16, compiled"] = ("torch", lambda b: pytorch(b, True, True, True))
INSTALL = {"torch": "pip install torch", "keras": "pip install keras tensorflow", "flax": "pip install flax"}


OTHERS = "torch", "tensorflow", "tensorflow-cpu", "keras"


def work(name, batch):
    """In a process of its own: take as many steps as each line of standard input says, tell the seconds of one.

    One more step goes before them, untimed: while a process waits for its turn the system takes pages
    from it.
    """
    if name.startswith("dcgan_jax"):  # as `python -m dcgan_jax.train` does; the others run with their own defaults
        from dcgan_jax.system.memory import keep_freed_memory

        keep_freed_memory()
    step, wait = PROGRAMS[name][1](batch)
    for _ in range(3):
        wait(step())
    print("ready", flush=True)
    for line in sys.stdin:
        wait(step())
        start = time.perf_counter()
        for _ in range(int(line)):
            result = step()
        wait(result)
        print((time.perf_counter() - start) / int(line), flush=True)
    print(peak_memory() / 2**20, flush=True)


def peak_memory():
    """In bytes: of the GPU, where the program can tell, else of the process."""
    if GPU and "jax" in sys.modules:
        return sys.modules["jax"].local_devices()[0].memory_stats()["peak_bytes_in_use"]
    if GPU and "torch" in sys.modules:
        return sys.modules["torch"].cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Worker:
    def __init__(self, name, batch):
        environment = {**ENVIRONMENT, "TF_CPP_MIN_LOG_LEVEL": "2"}
        command = [sys.executable, __file__, "--work", name, str(batch)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ready(self):
        """Wait until it has compiled and taken a few steps."""
        self._wait("ready")

    def _wait(self, what):
        line = self._process.stdout.readline().strip()
        if not line or (what == "ready" and line != what):
            raise SystemExit(f"{self._process.args[3:]} failed")
        return line

    def seconds(self, steps):
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._wait("seconds"))

    def finish(self):
        """Peak memory in MiB."""
        self._process.stdin.close()
        peak = float(self._wait("peak"))
        self._process.wait()
        return peak


def matrix_rate():
    """Best of ten float32 (TF32 on a GPU) products of 4096x4096 matrices, in FLOP/s."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((4096, 4096))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 4096**3 / min(times)


def _drop_if_failed(workers, name):
    """Wait for a program. One that has no memory, or lacks a library, is said and left out."""
    try:
        workers[name].ready()
    except SystemExit as error:
        print(error, file=sys.stderr)
        del workers[name]


def measure(batch, rounds, steps, names):
    """A dictionary for each program with this batch size."""
    workers = {}
    for name in names:
        workers[name] = Worker(name, batch)
        if GPU:  # programs are tried out there: nothing else may use it
            _drop_if_failed(workers, name)
    for name in [] if GPU else names:  # which compile at the same time
        _drop_if_failed(workers, name)
    times = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.seconds(steps))
    rate = matrix_rate()
    print(f"batch {batch}: float32 matrix product {rate / 1e9:.0f} GFLOP/s", file=sys.stderr)
    return [
        {
            "program": name,
            "batch": batch,
            "seconds": times[name],
            "images_per_second": batch / statistics.median(times[name]),
            "share": FLOP_PER_IMAGE * batch / statistics.median(times[name]) / rate,
            "peak_mib": worker.finish(),
        }
        for name, worker in workers.items()
    ]


def tell(rows):
    """One table: a row for each program, two columns for each batch size, and the peak memory of the largest."""
    found = {(row["program"], row["batch"]): row for row in rows}
    sizes = sorted({batch for _, batch in found})
    heads = [f"{size}: {head}" for size in sizes for head in ("images/s (slowest–fastest)", "ours ÷ this")]
    print(f"| program | {' | '.join(heads)} | MiB at {sizes[-1]} |\n{'|---' * (2 * len(sizes) + 2)}|")
    for name in dict.fromkeys(program for program, _ in found):
        cells = []
        for size in sizes:
            if (name, size) not in found:
                cells += ["", ""]
                continue
            row, own = found[name, size], found.get((f"dcgan_jax, {'bf16' if 'bf16' in name else 'float32'}", size))
            slowest, fastest = size / max(row["seconds"]), size / min(row["seconds"])
            cells += [f"{row['images_per_second']:.1f} ({slowest:.0f}–{fastest:.0f})"]
            cells += [f"{own['images_per_second'] / row['images_per_second']:.2f}" if own else ""]
        peak = f"{found[name, sizes[-1]]['peak_mib']:.0f}" if (name, sizes[-1]) in found else ""
        print(f"| {name} | {' | '.join(cells)} | {peak} |")


LOOP = """
import sys, time
from dcgan_jax.system.memory import keep_freed_memory

keep_freed_memory()

from dcgan_jax.config import Config
from dcgan_jax.run import loop
from dcgan_jax.run.fit import fit

batches, starts, waits = loop.batches, [], []

def timed(*args, **kwargs):
    stream = batches(*args, **kwargs)
    while True:
        starts.append(time.perf_counter())
        batch = next(stream)
        waits.append(time.perf_counter() - starts[-1])
        yield batch

loop.batches = timed
steps = int(sys.argv[2])
config = Config(
    batch_size=int(sys.argv[1]), steps=steps, sample_every=10**6, checkpoint_every=10**6, evaluate_every=0,
    device_data=sys.argv[4] == "True", dispatch=sys.argv[5],
)
fit(config, sys.argv[3])
print("WAIT", sum(waits[10:]) / (time.perf_counter() - starts[10]))  # the first ten may go to the device at once
"""


def loop(batch, steps, bare, device_data, dispatch):
    """The whole of ``train`` without its first dispatch: images/s, beside the bare step's, and waiting for data."""
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "loop.py")
        with open(script, "w") as file:
            file.write(LOOP)
        *_, last, wait = output([script, str(batch), str(steps), folder + "/run", str(device_data), dispatch])
    speed = float(last.split(", ")[2].split()[0])
    waiting = float(wait.split()[1])
    feeding = f"{'on the device' if device_data else 'from tf.data'}, dispatch {dispatch}"
    beside = f", {speed / bare:.1%} of the bare step's" if bare else ""
    print(
        f"\nThe loop, batch {batch}, {steps} steps of sprites, {feeding}: {speed:.1f} images/s{beside}; "
        f"waiting for data {waiting:.2%} of the time",
        flush=True,
    )
    return {"batch": batch, "feeding": feeding, "images_per_second": speed, "waiting": waiting}


def output(command, **environment):
    """The lines that a program of ours prints."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env={**ENVIRONMENT, **environment}
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.splitlines()


def commands(rounds):
    """Seconds of whole commands, and from two of them samples/s."""
    found = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        run, cache = f"{folder}/run", f"{folder}/cache"

        def take(name, *command):
            start = time.perf_counter()
            output(["-m", *command], DCGAN_JAX_CACHE=cache)
            found[name].append(time.perf_counter() - start)

        train = ("dcgan_jax.train", "--steps", "1", "--workdir")
        take("train, 1 step, the first time", *train, run)
        for i in range(rounds):
            take("train, 1 step, later", *train, f"{run}{i}")
            take("train --help", "dcgan_jax.train", "--help")
            for num in (1, 2049):
                take(f"generate {num}", "dcgan_jax.generate", "--workdir", run, "--num", str(num), "--out", f"{run}-{num}-{i}")  # fmt: skip
    print("\n| command | seconds |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {statistics.median(seconds):.2f} |")
    one, many = (statistics.median(found[f"generate {num}"]) for num in (1, 2049))
    print(f"\n{2048 / (many - one):.0f} samples/s, PNG files included", flush=True)
    return found


COUNT = """
import sys
import jax
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import compiled_step
from dcgan_jax.config import Config
from dcgan_jax.system.xla import compiler_options

state = create_state(Config(precision=sys.argv[1]))
images, key = jax.numpy.zeros((64, 64, 64, 3), "uint8"), jax.random.key(0)
print(compiled_step(**compiler_options("gpu", devices=1)).lower(state, images, key).compile().as_text())
"""


def count_convolutions(precision):
    """How many convolutions of a step cuDNN computes, by kind. Of 25, those not here are XLA's own."""
    text = "\n".join(output(["-c", COUNT, precision]))
    kinds = collections.Counter(re.findall(r"__cudnn\$(conv\w+)", text))
    print(f"\n{precision}: {dict(kinds)} by cuDNN", flush=True)
    return dict(kinds)


def draw(rows, path):
    """Images/s against the batch size, a line for each program."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["program"] for row in rows):
        mine = [(row["batch"], row["images_per_second"]) for row in rows if row["program"] == name]
        axes.loglog(*zip(*mine), marker="o", linewidth=2 if name.startswith("dcgan_jax") else 1, label=name)
    axes.set(xlabel="batch size", ylabel="images/s")
    sizes = sorted({row["batch"] for row in rows})
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.xaxis.minorticks_off()
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps per turn; more where one is too short to time")
    parser.add_argument("--loop-steps", type=int, default=100, help="at least 20; 0: no loops")
    parser.add_argument("--command-rounds", type=int, default=3, help="0: no commands and samples")
    parser.add_argument("--out", help="for OUT.json and OUT.png")
    parser.add_argument("--only", nargs="+", default=list(PROGRAMS), metavar="PROGRAM", help=json.dumps(list(PROGRAMS)))
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work[0], int(arguments.work[1]))
    names = []
    for name in arguments.only:
        package = PROGRAMS[name][0]
        if importlib.util.find_spec(package):
            names.append(name)
        else:
            print(f"{name}: skipped; {INSTALL[package]} adds it")
    from dcgan_jax.run.log import machine

    installed = {package.name.replace("_", "-"): package.version for package in importlib.metadata.distributions()}
    rows, loops = [], []
    found = {
        "machine": machine(),
        "others": {name: version for name, version in installed.items() if name in OTHERS},
        "steps": rows,
        "loops": loops,
    }

    def save():  # after each part: a later one may fail
        if arguments.out:
            with open(f"{arguments.out}.json", "w") as file:
                json.dump(found, file, indent=1)
            draw(rows, f"{arguments.out}.png")

    modes = [(on_device, "single") for on_device in (False, True)]
    modes += [(on_device, "several") for on_device in (False, True)] if GPU else []
    for batch in arguments.batch_sizes:
        rows += measure(batch, arguments.rounds, arguments.steps, names)
        save()
        bare = next((row for row in rows[::-1] if row["program"] == "dcgan_jax, float32"), {}).get("images_per_second")
        if arguments.loop_steps:
            loops += [loop(batch, arguments.loop_steps, bare, *mode) for mode in modes]
    tell(rows)
    if GPU:
        found["convolutions"] = {precision: count_convolutions(precision) for precision in ("float32", "bf16")}
    save()
    if arguments.command_rounds:
        found["commands"] = commands(arguments.command_rounds)
    save()


if __name__ == "__main__":
    main()
