"""Speaks the engine's protocol and misbehaves on demand: the job's ``task`` says how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading


def send(**event) -> None:
    print(json.dumps(event), flush=True)


def finish(identity, **result) -> None:
    send(id=identity, event="finished", result={"status": "finished", "values": {"pid": os.getpid()}, **result})


def answer(command: dict) -> None:
    identity, job = command["id"], command["job"]
    send(id=identity, event="started", task=job["task"])
    task = job["task"]
    if task == "count":
        for step in range(3):
            send(
                id=identity,
                event="progress",
                stage="counting",
                fraction=(step + 1) / 3,
                seconds_left=2.0 - step,
            )
        send(id=identity, event="log", text="counted to three")
        finish(identity)
    elif task == "fail":
        error = {
            "kind": "input",
            "message": "The volume is empty.",
            "remedy": "Load another.",
            "details": "where",
        }
        finish(identity, status="failed", error=error)
    elif task == "refuse":
        send(id=identity, event="error", message="This is not a job.", remedy="Mend it.")
    elif task == "crash":
        print("about to fall over", file=sys.stderr, flush=True)
        print("Segmentation fault at 0x0", file=sys.stderr, flush=True)
        os._exit(17)
    elif task == "chatter":
        print("a library says hello\n[1, 2]\n\n{broken", flush=True)
        sys.stdout.buffer.write(b"\xff\xfe not UTF-8\n")
        sys.stdout.flush()
        send(id="of another job", event="finished", result={"status": "finished", "values": {"pid": -1}})
        finish(identity)
    elif task == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        send(id=identity, event="progress", stage="hanging", fraction=0.5, child=child.pid)
        threading.Event().wait()
    elif task == "environment":
        finish(identity, values={"pid": os.getpid(), "environment": dict(os.environ), "path": sys.path})


for line in sys.stdin:
    message = json.loads(line)
    if message["command"] == "shutdown":
        break
    if message["command"] == "run":
        answer(message)
