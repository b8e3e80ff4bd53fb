"""Train a DCGAN: ``python -m dcgan_jax.train --workdir runs/``.

The same command again goes on where the last one stopped.
"""

import dataclasses
import math
import sys
import time
from pathlib import Path

from dcgan_jax import cli
from dcgan_jax.config import Config, InputError

# JAX, Flax and TensorFlow are imported by `train`, not here: `--help` and mistakes answer at once.


class NonFiniteError(RuntimeError):
    """A loss or gradient is no longer a finite number."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    workdir: Path
    """Folder of the run: its configuration, metrics, samples and checkpoints."""
    config: Config = Config()


def check_workdir(config: Config, workdir: Path) -> None:
    """
    Raises:
      InputError: ``workdir`` holds a run of another configuration, or is no run's folder. A run may
        differ in ``steps``: that extends it.
    """
    from dcgan_jax.checkpoint import FOLDER, check_folder

    check_folder(workdir)
    if (workdir / "config.json").exists():
        if different := config.differences(Config.load(workdir / "config.json")):
            raise InputError(
                f"{workdir} holds a run with another configuration: {', '.join(different)}; "
                "give these as they were, or another --workdir"
            )
    elif (workdir / FOLDER).is_dir():
        raise InputError(f"{workdir} has checkpoints but no config.json: give another --workdir")


def train(config: Config, workdir: str | Path):
    """Train, or go on training, the run in ``workdir`` until ``config.steps`` steps are taken.

    Args:
      config: the run. If the folder holds one already, all but ``steps`` must be as it was.
      workdir: folder of the run; made if it does not exist.

    Returns:
      The final ``GANState``.

    Raises:
      InputError: bad data or folder; nothing was written to the run folder.
      NonFiniteError: training diverged.
    """
    workdir = Path(workdir).expanduser()
    check_workdir(config, workdir)

    import jax

    from dcgan_jax.cache import cache_compilations, cache_folder
    from dcgan_jax.data.sources import open_source
    from dcgan_jax.data.store import prepare

    device = jax.devices()[0]
    _check_precision(config, device)
    cache = cache_folder()
    cache_compilations()
    source = open_source(config.data, cache=cache, seed=config.seed)
    _check_count(config, source.count)
    store = prepare(
        source, image_size=config.image_size, channels=config.channels, background=config.background, cache=cache
    )
    _check_count(config, len(store))

    from dcgan_jax.checkpoint import Checkpoints
    from dcgan_jax.data.pipeline import device_batches
    from dcgan_jax.runlog import RunLog
    from dcgan_jax.sampling import sample
    from dcgan_jax.state import create_state, generator_params
    from dcgan_jax.step import train_step

    workdir.mkdir(parents=True, exist_ok=True)
    settings = workdir / "config.json"
    if not settings.exists() or Config.load(settings).steps < config.steps:
        settings.write_text(config.to_json())
    noise_key, sample_key = jax.random.split(jax.random.key(config.seed))
    state = create_state(config)
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.latest(state)
        start = int(state.step)
        with RunLog(workdir, start=start, steps=config.steps, batch_size=config.batch_size) as log:
            log.say(
                f"{len(store):,} images of {store.shape[1]}x{store.shape[2]}x{store.shape[3]} from {config.data}; "
                f"{_count(state.generator):,} + {_count(state.discriminator):,} parameters on {_name(device)}"
            )
            if start:
                log.say(f"going on from step {start} of {workdir}")
            if start >= config.steps:
                log.say(f"nothing left to do: the run has its {config.steps} steps; --steps N extends it")
                return state
            log.reals(store.take(range(min(20, len(store)))))
            if start == 0:
                log.samples(0, sample(generator_params(state), sample_key))

            first, late = None, None  # late: what the device still computes, recorded one step later
            images = device_batches(store, batch_size=config.batch_size, seed=config.seed, start=start)
            for step in range(start + 1, config.steps + 1):
                state, metrics = train_step(state, next(images), noise_key)
                if late:
                    _record(log, *late)
                    late = None
                last = step == config.steps
                grid = None
                if last or step % config.sample_every == 0:
                    grid = sample(generator_params(state), sample_key)
                if last or grid is not None or step % config.log_every == 0:
                    rate = first and (step - first[0]) * config.batch_size / (time.perf_counter() - first[1])
                    late = (step, metrics if last or step % config.log_every == 0 else None, grid, rate)
                if last or step % config.checkpoint_every == 0:
                    checkpoints.save(step, state)
                log.advance()
                if first is None:  # compilation is over
                    jax.block_until_ready(metrics)
                    first = (step, time.perf_counter())
            jax.block_until_ready(metrics)
            seconds = time.perf_counter() - first[1]
            values = _record(log, *late)
    steps = config.steps - first[0]
    speed = steps * config.batch_size / seconds if steps else float("nan")
    print(
        f"loss_D {values['loss_D']:.3f}, loss_G {values['loss_G']:.3f}, {speed:.1f} examples/sec on {_name(device)}",
        flush=True,
    )
    return state


def _check_count(config, count):
    if count < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {count} images of {config.data}: "
            f"use --batch-size {count} or less, or more images"
        )


def _check_precision(config, device):
    """bfloat16 came to NVIDIA's GPUs with compute capability 8.0; CPUs and TPUs all take it."""
    if config.precision == "bf16" and device.platform == "gpu" and float(device.compute_capability) < 8:
        raise InputError(f"precision bf16 is not supported by {device.device_kind}: use --precision float32")


def _count(network) -> int:
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(network.params))


def _name(device) -> str:
    return f"{device.platform}:{device.id}"


def _record(log, step, metrics, grid, rate):
    """Fetch what a step computed and write it down."""
    import jax

    values = {name: float(value) for name, value in jax.device_get(metrics or {}).items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise NonFiniteError(f"step {step}: {', '.join(bad)} no longer finite; a lower --learning-rate may help")
    if values:
        log.metrics(step, values, rate)
    if grid is not None:
        log.samples(step, grid)
    return values


def main(default: Config = Config(), description: str | None = None) -> None:
    """The command line, with ``default`` giving the values of the flags that are not set."""
    try:
        arguments = cli.parse(Arguments, description=description or __doc__, config=default)
        cli.keep_memory()
        train(arguments.config, arguments.workdir)
    except InputError as error:
        cli.refuse(error)
    except NonFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
