"""How the memory of this process is allocated."""

import contextlib
import ctypes
import mmap
import os
import platform

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # malloc.h
_HUGE_PAGES = 8 << 30  # bytes of addresses; memory is taken where they are written to


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation, in huge pages. Call it before anything starts threads.

    XLA:CPU allocates its scratch memory anew in every step. glibc returns blocks of that size to the kernel, which has
    to clear and map every page again. When it keeps them, a step takes a fifth less time (docs/results/speed.md).

    Does nothing with another C library, or where ``GLIBC_TUNABLES`` is set: the user's own settings, or none with "".
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    libc.mallopt(_ARENA_MAX, 1)  # the arenas of threads give their memory back all the same

    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with contextlib.suppress(ValueError, OSError):  # how much there is may be unknown
        size = min(_HUGE_PAGES, os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 2)
        if block := libc.malloc(size):  # else addresses are limited: without huge pages, then
            start = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
            libc.madvise(start, block + size - start, mmap.MADV_HUGEPAGE)  # a hint: the system may not have them
            libc.free(block)
