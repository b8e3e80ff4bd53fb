"""The matrix units of Intel CPUs for products of bf16 (AMX; from Sapphire Rapids on), which XLA makes little use of.

What is written for them in C++ needs a compiler the first time. It is left out without a word on other CPUs and with
several devices.
"""

import jax

from dcgan_jax.system import native

NEEDED = frozenset({"amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512_bf16"})
"""What a CPU must be able to do, in Linux's words."""

_FLAGS = ("-mamx-tile", "-mamx-bf16", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16")


def here() -> bool:
    """Whether this process computes on one CPU that has them. A compiler may be missing all the same."""
    return native.cpu_flags() >= NEEDED and jax.default_backend() == "cpu" and jax.device_count() == 1


def registered(package: str, file: str, *handlers: str) -> bool:
    """Whether XLA can call these handlers of ``file``, which uses amx.h, here: see ``native.registered``."""
    files = (("dcgan_jax.system", "amx.h"), (package, file))
    return here() and native.registered(
        files, handlers, _FLAGS, slower="bf16 takes twice as long on this CPU as it could"
    )
