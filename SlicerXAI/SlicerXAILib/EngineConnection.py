"""One process of the engine with the threads that read what it says."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from .EngineErrors import EngineCrashed, EngineError
from .ProcessTree import describeExit, killProcessTree, startProcess
from .Translation import tr as _

_LAST_WORDS = 40


class EngineConnection:
    """One process with the threads that read its output."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelTimer: threading.Timer | None = None
        self._lastWords: deque[str] = deque(maxlen=_LAST_WORDS)
        try:
            self._process = startProcess(command, environment)
        except OSError as error:
            raise EngineError(
                _("The engine could not be started: {reason}.").format(reason=error),
                _("Check that this program exists: {program}").format(program=command[0]),
            ) from error
        self._errorReader = self._startReader(self._readErrors, self._process.stderr)
        self._startReader(self._readEvents, self._process.stdout)

    @property
    def processId(self) -> int:
        return self._process.pid

    def isAlive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        # A process that has just died shows in its output's end, which reports the crash with its reason.
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass

    def receive(self, timeout: float) -> dict[str, Any] | None:
        try:
            return self._events.get(timeout=timeout) if timeout > 0 else self._events.get_nowait()
        except queue.Empty:
            return None

    def leave(self, timeout: float) -> None:
        self.send({"command": "shutdown"})
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass

    def leaveSoon(self, seconds: float) -> None:
        """Ask the process to leave; a thread ends it if it has not within ``seconds``."""

        def seeOff() -> None:
            self.leave(seconds)
            self.kill()

        threading.Thread(target=seeOff, daemon=True).start()

    def cancelOrKill(self, jobId: str, seconds: float) -> None:
        """Send a cancel; unless it is forgotten within ``seconds``, end the process, come what may."""
        self.send({"id": jobId, "command": "cancel"})
        self._cancelTimer = threading.Timer(seconds, killProcessTree, [self._process])
        self._cancelTimer.daemon = True
        self._cancelTimer.start()

    def forgetCancel(self) -> None:
        if self._cancelTimer is not None:
            self._cancelTimer.cancel()
            self._cancelTimer = None

    def kill(self) -> None:
        self.forgetCancel()
        killProcessTree(self._process)

    def crash(self) -> EngineCrashed:
        """Describe the end of the process with the last lines that it wrote."""
        lastWords = "\n".join(self._lastWords)
        ending = next((line for line in reversed(self._lastWords) if line.strip()), _("it said nothing"))
        return EngineCrashed(
            _("The engine {ended}; its last words: {words}").format(
                ended=describeExit(self._process.poll()), words=ending.strip()
            ),
            _(
                "Try again; if it happens again, choose the CPU or a smaller volume (memory may be short), "
                "and see the log."
            ),
            lastWords,
        )

    def _startReader(self, read: Callable[[TextIO], None], stream: TextIO) -> threading.Thread:
        thread = threading.Thread(target=read, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _readEvents(self, stream: TextIO) -> None:
        for line in stream:
            event = _parseEvent(line)
            if event is None:
                self._log(line)
            else:
                self._events.put(event)
        self._errorReader.join(timeout=2.0)
        self._process.wait()
        self._events.put({"event": "exited"})

    def _readErrors(self, stream: TextIO) -> None:
        for line in stream:
            self._log(line)

    def _log(self, line: str) -> None:
        text = line.rstrip("\n")
        self._lastWords.append(text)
        self._events.put({"event": "log", "text": text})


def _parseEvent(line: str) -> dict[str, Any] | None:
    """Return the event on a line, or None where a library has printed something of its own."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
