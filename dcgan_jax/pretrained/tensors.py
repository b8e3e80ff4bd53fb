"""Reads tensors from a file of PyTorch, without PyTorch: nothing is unpickled but tensors."""

import pickle
from collections import OrderedDict
from typing import BinaryIO

import numpy as np


def read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors of a file of PyTorch before 1.6 (pickles, then the raw numbers), by name.

    Raises:
      UnpicklingError: it holds anything else.
    """
    numbers: dict[str, np.ndarray] = {}
    for _ in range(3):  # a magic number, the version, sizes of the types
        _Tensors(file, numbers).load()
    tensors = _Tensors(file, numbers).load()
    for key in _Tensors(file, numbers).load():
        count = int.from_bytes(file.read(8), "little")
        numbers[key][:] = np.frombuffer(file.read(count * numbers[key].itemsize), numbers[key].dtype)
    return tensors


class _Tensors(pickle.Unpickler):
    """Makes arrays and dictionaries, and knows no other names: nothing in the file is called."""

    def __init__(self, file, numbers):
        super().__init__(file)
        self._numbers = numbers

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no tensor")
        return allowed[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, count, _ = pid
        return self._numbers.setdefault(key, np.zeros(count, dtype))  # filled when its numbers come


def _tensor(numbers, offset, shape, strides, *_):
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or last >= len(numbers):
        raise pickle.UnpicklingError("a tensor reaches beyond its numbers")
    strides = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, strides)
