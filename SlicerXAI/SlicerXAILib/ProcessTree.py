"""A child process that can be ended together with everything that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from .Translation import tr as _


def startProcess(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """Start a process with text pipes, as the head of a process group of its own."""
    options = {}
    if os.name == "nt":
        # No console window; a group of its own keeps Ctrl+C of the parent away.
        options["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["start_new_session"] = True
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
        **options,
    )


def killProcessTree(process: subprocess.Popen, timeout: float = 5.0) -> None:
    """End the process and its children at once. Does nothing if they have ended.

    PythonSlicer is a launcher: to kill it alone would leave the interpreter running.
    """
    if os.name == "nt":
        if process.poll() is None:
            taskkill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(taskkill, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
    else:
        # The group outlives its head, so that children are ended even after a crash.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()


def describeExit(returnCode: int | None) -> str:
    """Say how a process ended, in words that a user can search for."""
    if returnCode is None:
        return _("is still running")
    if returnCode == 0:
        return _("ended without a result")
    if returnCode > 0:
        return _("ended with exit code {code}").format(code=returnCode)
    try:
        name = signal.Signals(-returnCode).name
    except ValueError:
        name = _("signal {number}").format(number=-returnCode)
    return _("was ended by {signal}").format(signal=name)
