"""Speaks the engine's protocol and misbehaves on demand: the job's ``task`` says how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]


def send(**event) -> None:
    print(json.dumps(event), flush=True)


def finish(identity, **result) -> None:
    send(id=identity, event="finished", result={"status": "finished", "values": {"pid": os.getpid()}, **result})


def quantify(identity, job: dict) -> None:
    """Leave the example result in the job's output folder, as the real task would on this scan."""
    from host.example_result import write_example_result
    from xaiengine.io.volume_files import read_volume

    send(id=identity, event="progress", stage="Explaining", fraction=0.25, seconds_left=40.0)
    grid = read_volume(job["inputs"]["volume"]).grid
    folder = write_example_result(Path(job["output"]), grid.shape, grid.affine)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result["provenance"]["job"] = job
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    finish(identity, **result)


def make_files(identity, job: dict) -> None:
    """Leave a file for other tasks in the job's output folder."""
    folder = Path(job["output"])
    folder.mkdir(parents=True)
    (folder / "directions.safetensors").write_bytes(b"numbers")
    artifact = {"kind": "data", "file": "directions.safetensors", "name": "directions", "role": "directions"}
    result = {"task": job["task"], "artifacts": [artifact], "provenance": {"job": job}}
    content = json.dumps({"status": "finished", **result})
    (folder / "result.json").write_text(content, encoding="utf-8")
    finish(identity, **result)


def answer(command: dict) -> None:
    identity, job = command["id"], command["job"]
    send(id=identity, event="started", task=job["task"])
    # A model's name may ask for misbehavior too, where the task is given.
    task = job["model"] if job.get("model") in ("hang", "crash", "fail") else job["task"]
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
        send(id=identity, event="error", message="This is not a job.", remedy="Correct it.")
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
        if job.get("output"):
            from xaiengine.core.folder_lock import LOCK_NAME
            from xaiengine.core.output import PARTIAL_MARK

            partial = Path(job["output"]) / ".partial-hang"
            partial.mkdir(parents=True)
            for left in (partial / PARTIAL_MARK, Path(job["output"]) / LOCK_NAME):
                left.touch()
            (partial / "attribution.nrrd").write_bytes(b"half of it")
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        send(id=identity, event="progress", stage="hanging", fraction=0.5, child=child.pid)
        threading.Event().wait()
    elif task == "quantify-lesions":
        quantify(identity, job)
    elif task == "find-directions":
        make_files(identity, job)
    elif task == "environment":
        finish(identity, values={"pid": os.getpid(), "environment": dict(os.environ), "path": sys.path})


def inspection() -> dict:
    """What the engine would say of a small classifier."""
    layers = [("features.0", False), ("features.3", True), ("features.6", False)]
    rows = [{"name": name, "default": best, "suits_bottleneck": True, "suits_cam": True} for name, best in layers]
    return {
        "task": "classification",
        "spatial_dims": 2,
        "labels": ["healthy", "lesion"],
        "target": "lesion",
        "layers": rows,
        "default_layer": "features.3",
        "window": [64, 64],
        "window_memory_mb": 12.5,
        "notes": ["For tests."],
    }


for line in sys.stdin:
    message = json.loads(line)
    if message["command"] == "shutdown":
        break
    if message["command"] == "inspect":
        cards = [["cuda:0", "H100"], ["cuda:1", "T4"]] if message["model"] == "cards" else []
        send(id=message["id"], event="finished", inspection=inspection(), devices=cards)
    if message["command"] == "run":
        answer(message)
