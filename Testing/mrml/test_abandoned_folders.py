"""Copies of scans that a crashed application has left are removed by the next one, those in use are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from SlicerXAILib import AbandonedFolders
from SlicerXAILib.AbandonedFolders import removeAbandoned, removeAbandonedSoon
from SlicerXAILib.JobWriter import JobFolder

LIBRARY = Path(__file__).resolve().parents[2] / "SlicerXAI"
OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from SlicerXAILib.AbandonedFolders import FolderLock
folder = Path(sys.argv[1])
folder.mkdir()
lock = FolderLock(folder)
(folder / "volume.nrrd").write_bytes(b"a scan")
print("made", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process(tmp_path):
    """Another application with a job folder."""
    folder = tmp_path / "xai-job-other"
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), str(LIBRARY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline().strip() == b"made"
    yield process, folder
    process.kill()
    process.wait()


def test_a_folder_in_use_stays_and_goes_once_its_owner_has_crashed(other_process, tmp_path):
    process, folder = other_process
    os.utime(folder / "owner.lock", (0, 0))
    assert removeAbandoned(tmp_path) == [] and (folder / "volume.nrrd").exists()
    process.kill()
    process.wait()
    assert removeAbandoned(tmp_path) == [folder] and not folder.exists()


def test_a_folder_whose_owner_is_about_to_lock_it_stays(tmp_path):
    folder = tmp_path / "xai-job-now"
    folder.mkdir()
    (folder / "owner.lock").touch()
    assert removeAbandoned(tmp_path) == [] and folder.is_dir()


def test_a_folder_of_this_application_stays_until_its_job_has_ended(tmp_path):
    job = JobFolder(tmp_path)
    assert removeAbandoned(tmp_path) == [] and job.path.is_dir()
    job.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_never_locked_goes_when_it_is_old(tmp_path, monkeypatch):
    (tmp_path / "xai-job-new").mkdir()
    old = tmp_path / "xai-job-old"
    old.mkdir()
    os.utime(old, (0, 0))
    foreign = tmp_path / "something else"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    assert removeAbandoned(tmp_path) == [old]
    assert foreign.is_dir() and (tmp_path / "xai-job-new").is_dir()


def test_locks_that_the_drive_does_not_know_keep_no_job_from_running(tmp_path, monkeypatch):
    def refuse(_file):
        raise OSError("No locks available")

    monkeypatch.setattr(AbandonedFolders, "_lock", refuse)
    job = JobFolder(tmp_path)
    assert removeAbandoned(tmp_path) == []
    job.remove()
    assert not job.path.exists()


def test_the_logic_cleans_up_when_it_is_made(application, scene, monkeypatch):
    import slicer
    from SlicerXAILib import Logic

    threads = []
    monkeypatch.setattr(Logic, "removeAbandonedSoon", lambda parent: threads.append(removeAbandonedSoon(parent)))
    left = Path(slicer.app.temporaryPath) / "xai-job-left"
    left.mkdir()
    (left / "owner.lock").touch()
    os.utime(left / "owner.lock", (0, 0))
    logic = Logic.XAILogic()
    threads[0].join()
    assert not left.exists()
    logic.close()
