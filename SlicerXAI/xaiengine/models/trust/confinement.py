"""Takes from a process what reading a model does not need: writing, programs, network, endless time and memory.

Each system gives what it has. POSIX: limits of resources. Linux besides: Landlock (no file is written) and seccomp
(no program is started, no network). Windows: a job object, set from outside. Everywhere: an audit hook of Python.
What a system lacks is left out; the static checks of a model do not depend on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_REFUSED_EVENTS = frozenset(
    """
    subprocess.Popen os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty os.remove os.rename os.mkdir os.rmdir
    os.chmod os.chown os.link os.symlink os.truncate os.utime os.kill os.killpg shutil.copyfile
    shutil.move shutil.rmtree socket.bind socket.connect socket.getaddrinfo socket.sendto urllib.Request
    webbrowser.open smtplib.connect ftplib.connect tempfile.mkstemp tempfile.mkdtemp os.startfile winreg.SetValue
    """.split()
)


class ForbiddenError(PermissionError):
    """The model made the process try what it may not."""


def confine(memory_bytes: int, cpu_seconds: int) -> tuple[str, ...]:
    """Confine this process for the rest of its life; the names of what was put in force.

    ``memory_bytes`` and ``cpu_seconds`` are what it may take beyond what it has taken so far.
    """
    done = []
    for name, apply in (
        ("limits", lambda: _limit_resources(memory_bytes, cpu_seconds)),
        ("landlock", _forbid_writing),
        ("seccomp", _forbid_programs),
        ("audit", _watch),
    ):
        with contextlib.suppress(OSError, AttributeError, ValueError, ImportError):
            if apply():
                done.append(name)
    return tuple(done)


def _limit_resources(memory_bytes: int, cpu_seconds: int) -> bool:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + cpu_seconds
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    if (held := _virtual_bytes()) and hasattr(resource, "RLIMIT_AS"):
        _lower(resource.RLIMIT_AS, held + memory_bytes)
    return True


def _lower(kind: int, value: int) -> None:
    import resource

    _soft, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (limit, limit if kind != resource.RLIMIT_CPU else hard))


def _virtual_bytes() -> int:
    """Address space that this process has; 0 where the system does not tell (macOS, whose limit binds nothing)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _libc() -> Any:
    if sys.platform != "linux":
        raise OSError("Linux only")
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    library.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    return library


_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_WRITE_RIGHTS = (0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12)
"""Landlock's bits: execute, write a file, remove and make files and folders of every kind."""


def _forbid_writing() -> bool:
    """Landlock without any exception: no file is opened for writing, made, removed or executed."""
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rights = sum(1 << bit for bit in _WRITE_RIGHTS)
    rights |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    network = 0b11 if version >= 4 else 0
    attributes = ctypes.create_string_buffer(struct.pack("=QQ", rights, network))
    size = 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        return libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


_ARCHITECTURES = {
    "x86_64": (0xC000003E, (41, 42, 49, 50, 59, 101, 322, 321, 425, 310, 311, 62, 200, 234, 248, 250)),
    "aarch64": (0xC00000B7, (198, 203, 200, 201, 221, 117, 281, 280, 425, 270, 271, 129, 130, 131, 217, 219)),
}
"""Numbers of socket, connect, bind, listen, execve, ptrace, execveat, bpf, io_uring_setup, process_vm_readv/writev,
kill, tkill, tgkill, add_key, keyctl."""


def _forbid_programs() -> bool:
    """A seccomp filter under which these calls fail with EPERM."""
    import platform

    if platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    identity, numbers = _ARCHITECTURES[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001
    program = [(load, 0, 0, 4), (equal, 1, 0, identity), (answer, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(0x35, 0, 1, 0x40000000), (answer, 0, 0, refuse)]  # x32's second set of numbers
    for position, number in enumerate(numbers):
        program.append((equal, len(numbers) - position, 0, number))
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = _libc()
    described = Program(len(program), ctypes.addressof(code))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(described), 0, 0) == 0


def _watch() -> bool:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED_EVENTS or (event == "open" and _writes(arguments)):
            raise ForbiddenError(f"{event} of {str(arguments[0] if arguments else '')[:200]}")

    sys.addaudithook(hook)
    return True


def _writes(arguments: tuple[Any, ...]) -> bool:
    """Whether an ``open`` is for writing; descriptors that are open already are left alone."""
    path, mode, flags = (*arguments, None, None, None)[:3]
    if isinstance(path, int):
        return False
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & _WRITING)


def limit_from_outside(process_handle: int, memory_bytes: int) -> Callable[[], None]:
    """Put a process of Windows into a job that may not start others nor take more memory; what ends the job.

    On other systems, or where Windows refuses, nothing happens.
    """
    if sys.platform != "win32":
        return lambda: None

    class Basic(ctypes.Structure):
        _fields_ = [
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", ctypes.c_uint32),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", ctypes.c_uint32),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", ctypes.c_uint32),
            ("SchedulingClass", ctypes.c_uint32),
        ]

    class Extended(ctypes.Structure):
        _fields_ = [
            ("BasicLimitInformation", Basic),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        ]

    active_process, process_memory, kill_on_close = 0x8, 0x100, 0x2000
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    job = kernel.CreateJobObjectW(None, None)
    if not job:
        return lambda: None
    limits = Extended()
    limits.BasicLimitInformation.LimitFlags = active_process | process_memory | kill_on_close
    limits.BasicLimitInformation.ActiveProcessLimit = 1
    limits.ProcessMemoryLimit = memory_bytes
    extended_information = 9
    kernel.SetInformationJobObject(
        ctypes.c_void_p(job), extended_information, ctypes.byref(limits), ctypes.sizeof(limits)
    )
    kernel.AssignProcessToJobObject(ctypes.c_void_p(job), ctypes.c_void_p(process_handle))
    return lambda: kernel.CloseHandle(ctypes.c_void_p(job))
