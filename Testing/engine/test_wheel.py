"""The wheel, installed where nothing else is, finds its shipped models and quantifies lesions."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support.lesion_patients import patient
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import write_volume
from xaiengine.models import shipped_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new environment that holds the wheel; dependencies are lent by this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = folder.glob("slicerxai-*.whl")
    venv.create(folder / "env", with_pip=False)
    interpreter = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, str(wheel)]
    subprocess.run(install, check=True)
    # plain paths only: this environment's own .pth files would lead back to the checkout
    Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return interpreter


def run(python, *arguments, **more):
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    call = [str(python), "-m", "xaiengine", *arguments]
    return subprocess.run(call, env={**settings, "PYTHONUTF8": "1"}, capture_output=True, text=True, **more)


@pytest.mark.slow
def test_the_engine_comes_from_the_wheel_with_its_models(python, tmp_path):
    code = "import xaiengine, xaiengine.models as m; print(xaiengine.__file__); print(*m.shipped_models())"
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        [python, "-c", code], env=settings, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    place, names = answer.stdout.splitlines()
    assert str(ROOT) not in place
    assert names.split() == list(shipped_models()) and "lung_lesion_slice_classifier" in names


@pytest.mark.slow
def test_the_shipped_model_runs_by_its_name(python, tmp_path):
    volume, lungs, _ = patient()
    write_volume(tmp_path / "ct.nrrd", volume)
    masks = [Mask("lungs", lungs.combined)]
    write_segmentation(tmp_path / "lungs.seg.nrrd", Segmentation.from_masks(masks, volume.grid, "lungs"))
    inputs = ("ct.nrrd", "--lungs", "lungs.seg.nrrd", "--output", "out")
    done = run(python, "quantify-lesions", *inputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["provenance"]["model"]["name"] and Path(tmp_path / "out" / "lesions.seg.nrrd").is_file()
