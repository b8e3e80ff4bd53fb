"""A jitted function of arrays of any length, compiled once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_chunks(
    function: Callable[[Any], Any],
    array: jax.Array | np.ndarray,
    size: int,
    *,
    run: Callable[[Callable, Iterable[int]], Iterable] = map,
) -> Any:
    """``function`` of an array (N, ...), always of ``size`` rows: the last chunk is filled with zeros, and cut again.

    Args:
      function: maps (size, ...) to an array or a tree of arrays with as many rows. No row may depend on another.
      array: of JAX or NumPy. Without rows the result has none either.
      run: applies a function to each of several numbers, like ``map``; that of a pool uses its threads.

    Returns:
      What ``function`` returns, of N rows.
    """
    pad = jnp.pad if isinstance(array, jax.Array) else np.pad

    def chunk(start):
        part = array[start : start + size]
        rows = part.shape[0]
        padded = pad(part, [(0, size - rows), *[(0, 0)] * (part.ndim - 1)])
        return jax.tree.map(lambda result: result[:rows], function(padded))

    results = list(run(chunk, range(0, max(array.shape[0], 1), size)))
    return jax.tree.map(_joined, *results)


def _joined(*parts):
    return jnp.concatenate(parts) if isinstance(parts[0], jax.Array) else np.concatenate(parts)
