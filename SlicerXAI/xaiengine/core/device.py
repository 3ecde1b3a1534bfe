"""Which processor does the work, and what it has left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import OptionError, ResourceError

if TYPE_CHECKING:
    import torch

_USUAL_PROCESS = 600 * 2**20
"""Bytes of a process with the packages that the engine needs."""


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA when there is one, else the CPU. Raises OptionError for a device that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(
            f"There is no kind of device called {name!r}.", "Use auto, cpu, cuda or cuda:N (N counts from 0)."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"Device {name} was asked for, but this machine offers {torch.cuda.device_count()} CUDA devices.",
            "Use auto or cpu, or name another device.",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError("Device mps was asked for, but is not available here.", "Use auto or cpu.")
    return device


def graphics_cards() -> list[tuple[str, str]]:
    """The graphics cards that torch can use: the name for ``choose_device``, and the maker's name."""
    import torch

    if torch.cuda.is_available():
        return [(f"cuda:{n}", torch.cuda.get_device_name(n)) for n in range(torch.cuda.device_count())]
    return [("mps", "Apple GPU")] if torch.backends.mps.is_available() else []


def available_memory(device: torch.device) -> int:
    """Bytes that can still be had on the device (on a CPU: of the machine, as far as the system tells)."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def used_memory(device: torch.device) -> int:
    """Bytes that this process holds on the device (on a CPU: as far as the system tells, else what is usual)."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.memory_reserved(device))
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _USUAL_PROCESS


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python gave up for want of memory; on a CPU torch says so in a plain RuntimeError."""
    text = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory"))


def memory_problem(error: BaseException) -> ResourceError | None:
    """The error as a ResourceError with its remedy if memory ran out, else None."""
    if not isinstance(error, (MemoryError, RuntimeError)) or not is_out_of_memory(error):
        return None
    return ResourceError(
        "The memory was not enough for this job.",
        "Close other programs, choose the CPU, or crop the scan to the region of interest.",
    )


def free_memory() -> int:
    """Bytes of the machine's memory that can still be had, as far as the system tells. Needs no torch."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return _windows_ram() or 4 * 2**30


def _windows_ram() -> int:
    """Available bytes by GlobalMemoryStatusEx; 0 where that call does not exist."""
    import ctypes

    if not hasattr(ctypes, "windll"):
        return 0

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "available", "page_total", "page_left", "virtual", "virtual_left", "extended")
        ]

    status = Status()
    status.length = ctypes.sizeof(Status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.available)
