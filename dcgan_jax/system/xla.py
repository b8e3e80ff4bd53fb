"""What JAX and XLA are told: settings that numbers depend on, and options that depend on the platform."""

import contextlib
import os
from collections.abc import Iterator

import jax

from dcgan_jax.system.errors import InputError, first_line

RANDOM = "threefry2x32"
"""The random numbers of all keys: with others image ``i`` would depend on how many are drawn with it."""

# XLA:CPU stops at 256-bit vectors unless told otherwise.
_CPU: dict[str, bool | int | str] = {"xla_cpu_prefer_vector_width": 512}
# XLA's own list of what is launched together, and convolutions (openxla/xla issue 34572).
_COMMANDS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"


@contextlib.contextmanager
def usual_numbers() -> Iterator[None]:
    """Compute in float32 by JAX's usual rules, whatever ``JAX_ENABLE_X64`` and other settings of the user say.

    The numbers of a run do not depend on them, nor do the types of its state. Decorates what computes.

    Raises:
      InputError: JAX has no device to compute on.
    """
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision(None),
        jax.default_prng_impl(RANDOM),
        jax.disable_jit(False),
    ):
        _check_device()
        yield


def _check_device():
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter from JAX itself, for cuda without its plugin
        platforms = os.environ.get("JAX_PLATFORMS")
        raise InputError(
            f"JAX has no device to compute on, JAX_PLATFORMS is {platforms!r} ({first_line(error)}): unset it, or for "
            "cuda install the extra cuda13 or cuda12 (python -m pip install 'dcgan_jax[cuda13]')"
        ) from None


def random_key(seed: int) -> jax.Array:
    """``jax.random.key(seed)``, whatever ``JAX_DEFAULT_PRNG_IMPL`` says."""
    return jax.random.key(seed, impl=RANDOM)


def compiler_options(platform: str, *, devices: int = 1, deterministic: bool = False) -> dict[str, bool | int | str]:
    """What XLA is told when it compiles a step for ``devices`` devices of a platform: cpu, gpu or tpu.

    With ``deterministic`` a GPU uses no operation whose result varies from run to run, and tries none out for speed:
    the fastest may be another one the next time.
    """
    if platform == "cpu":
        return _CPU
    if platform != "gpu":
        return {}
    options: dict[str, bool | int | str] = {} if devices > 1 else {"xla_gpu_enable_command_buffer": _COMMANDS}
    if deterministic:
        options |= {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}
    return options
