"""Every task's tensors are on the device that was asked for, and its results are the CPU's.

On a machine with a card, ``Testing/run.py test --device cuda`` runs this on CUDA. Without one it runs on a second
device made of the CPU's memory (``support/far_device.py``), on which, as on CUDA, tensors of two devices may not meet.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from host.bright_lesion import write_model
from PIL import Image
from support import far_device
from support.dissection_runs import built, table
from support.lesion_patients import patient
from support.planted_findings import finding_batch, write_cohort
from support.prediction_models import model_of
from support.scans import Ball, thorax
from support.segmentation_bundles import bright_scan, random_unet_bundle
from xaiengine.app.run import run_job
from xaiengine.attribution.registry import METHODS
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume, write_volume

ASKED = os.environ.get("XAIENGINE_TEST_DEVICE", "cpu")
HELD_OUT = Path(__file__).resolve().parents[1] / "data" / "chest_xray_held_out.npz"
SMALL = Grid.from_directions((20, 18, 14), (5.6, 5.2, 6.6), None, (-55.0, -46.0, -45.0))
QUICK = {"masks": 20, "coalitions": 20, "regions": 6, "permutations": 2, "samples": 3, "schedule": "reference"}


@pytest.fixture(scope="module")
def device() -> str:
    """The other device: the one asked for, else the one of the CPU's memory."""
    if ASKED != "cpu":
        return ASKED
    return str(far_device.register())


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("scan")
    return str(write_volume(folder / "scan.nrrd", thorax(SMALL, (Ball(radius=9.0, value=300),))))


def run(task: str, folder, device: str, session=None, model: str = "", **options):
    job = Job(task=task, model=model, options=options, output=str(folder), device=device)
    result = run_job(job, session=session)
    assert result.status == "finished", (result.error, device)
    return result


def session_of(**described) -> SimpleNamespace:
    """A model in memory, made afresh for each run and moved to the run's device, as files are."""
    return SimpleNamespace(model=lambda name, device, trust=False: model_of(**described).to(device))


def maps(result, folder) -> dict[str, np.ndarray]:
    return {item.role: read_volume(folder / item.file).array for item in result.artifacts if item.kind == "volume"}


def assert_same_maps(first: dict[str, np.ndarray], second: dict[str, np.ndarray], relative: float) -> None:
    assert first.keys() == second.keys() and first
    for role, expected in first.items():
        difference = np.abs(second[role].astype(np.float64) - expected).sum()
        assert difference <= relative * np.abs(expected).sum() + 1e-12, role


def needs_what_this_network_lacks(name: str, dims: int) -> bool:
    """Refused with a reason on this network: its weights are positive, it has neither a pooled end nor attention, and
    no one has fitted reference scans."""
    references = ("reference_gradients", "reference_shapley")
    attention = ("attention_rollout", "attnlrp", "gradient_attention", "legrad")
    return name in ("cam", "guided_backpropagation", "deconvolution", *references, *attention)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_gives_the_same_map_on_the_other_device(name, dims, device, scan, tmp_path):
    if needs_what_this_network_lacks(name, dims):
        pytest.skip("does not apply to this network")
    options = {"volume": scan, "model": "ball", "methods": [name], "target": "ball", "slices": "highest", **QUICK}
    options["layers"] = ["bright", "late"]
    found = {}
    for place in ("cpu", device):
        session = session_of(spatial_dims=dims, spacing=None)
        folder = tmp_path / place.replace(":", "")
        found[place] = maps(run("explain-prediction", folder, place, session, **options), folder)
    # Noise is drawn on the device itself: on a card by another generator than the CPU's.
    random = METHODS[name].family == "information" or name in ("rise", "gradient_shap") or "grad" in name
    assert_same_maps(found["cpu"], found[device], 0.35 if ASKED != "cpu" and random else 1e-3)


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> str:
    return str(random_unet_bundle(tmp_path_factory.mktemp("unet")))


@pytest.mark.parametrize(
    "names",
    [
        ["saliency", "integrated_gradients", "smoothgrad"],
        ["grad-cam", "hires-cam", "layer-activation"],
        ["occlusion", "rise"],
        ["kernel_shap"],
        ["iba"],
    ],
    ids=" ".join,
)
def test_a_segmentation_is_explained_on_the_other_device(names, device, unet, tmp_path):
    bright_scan(tmp_path / "scan.nrrd")
    options = {"volume": str(tmp_path / "scan.nrrd"), "methods": names, "samples": 2, "masks": 20, "coalitions": 20}
    found = {}
    for place in ("cpu", device):
        folder = tmp_path / place.replace(":", "")
        found[place] = maps(run("explain-segmentation", folder, place, None, unet, **options), folder)
    assert_same_maps(found["cpu"], found[device], 0.35 if ASKED != "cpu" else 1e-3)


def test_lesions_are_quantified_on_the_other_device(device, tmp_path):
    volume, lungs, _ = patient()
    write_volume(tmp_path / "ct.nrrd", volume)
    masks = [Mask("left lung", lungs.left), Mask("right lung", lungs.right)]
    write_segmentation(tmp_path / "lungs.seg.nrrd", Segmentation.from_masks(masks, volume.grid, "lungs"))
    model = write_model(tmp_path / "bright")
    options = {
        "volume": str(tmp_path / "ct.nrrd"),
        "lungs": str(tmp_path / "lungs.seg.nrrd"),
        "threshold_method": "otsu",
    }
    found = {}
    for place in ("cpu", device):
        folder = tmp_path / place.replace(":", "")
        found[place] = run("quantify-lesions", folder, place, None, str(model), **options)
    burdens = [result.values["burden_percent"] for result in found.values()]
    assert burdens[0] > 0 and burdens[1] == pytest.approx(burdens[0], rel=0.02)


def test_a_counterfactual_series_is_made_on_the_other_device(device, tmp_path):
    images = np.load(HELD_OUT)["images"]
    Image.fromarray(images[1]).save(tmp_path / "xray.png")
    options = {"volume": str(tmp_path / "xray.png"), "generator": "chest_xray_counterfactual", "frames": 3, "steps": 3}
    found = {}
    for place in ("cpu", device):
        folder = tmp_path / place.replace(":", "")
        model = "chest_xray_consolidation_classifier"
        found[place] = run("explain-counterfactual", folder, place, None, model, **options)
    gaps = [result.values["gap"] for result in found.values()]
    assert gaps[1] == pytest.approx(gaps[0], abs=2e-3)


on_a_card = pytest.mark.skipif(
    ASKED == "cpu", reason="linear algebra and optimizers of this need a card's own kernels"
)


@on_a_card
def test_directions_of_every_kind_are_found_on_the_other_device(device, tmp_path):
    methods = ["logistic", "covariance", "ridge", "style", "weights", "gradient"]
    small = {"samples": 60, "judged": 2, "gradients": 4, "style_images": 1, "channels": 1, "reach": 2.0}
    options = {"generator": "chest_xray_counterfactual", "methods": methods, **small}
    model = "chest_xray_consolidation_classifier"
    result = run("find-directions", tmp_path / "out", device, None, model, **options)
    assert {item.role for item in result.artifacts} >= {"directions"}


@on_a_card
@pytest.mark.parametrize("encoder", [True, False], ids=["joint", "adversarial"])
def test_a_generator_is_trained_on_the_other_device(encoder, device, tmp_path):
    for number, image in enumerate(np.load(HELD_OUT)["images"][:24]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    small = {"steps": 2, "batch": 4, "width": 4, "maximum_width": 8, "latent_size": 8, "size": "32", "code_size": "8"}
    options = {"images": str(tmp_path), "encoder": encoder, **small}
    run("train-generator", tmp_path / "out", device, **options)


def test_units_are_dissected_on_the_other_device(device, tmp_path):
    cohort = write_cohort(tmp_path / "cohort", finding_batch(np.random.default_rng(0), 12))
    tables = {}
    for place in ("cpu", device):
        session = SimpleNamespace(model=lambda name, device, trust=False: built().to(device))
        folder = tmp_path / place.replace(":", "")
        options = {"images": str(cohort), "draws": 20, "rolls": 8, "sheet_units": 0, "layers": ["units"]}
        run("dissect", folder, place, session, "planted", **options)
        tables[place] = table(folder, "units")
    assert tables["cpu"] == tables[device]


def test_the_device_made_of_memory_finds_a_tensor_on_the_wrong_device():
    place = far_device.register()
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU()).eval()
    inputs = torch.randn(1, 1, 8, 8)
    expected = network(inputs)
    network.to(place)
    far = inputs.to(place)
    assert far.device == place and torch.equal(network(far).cpu(), expected)
    for mistake in (
        lambda: far + torch.zeros(8, 8),
        lambda: network(inputs),
        lambda: torch.where(far > 0, far, torch.zeros(1, 1, 8, 8)),
        lambda: torch.cat([far, inputs]),
        lambda: inputs[far[0, 0, 0].long().clamp(0, 0)],
    ):
        with pytest.raises((far_device.WrongDevice, RuntimeError), match="device"):
            mistake()
    with pytest.raises(TypeError, match="numpy"):
        far.numpy()
    assert (far * 2.0 + torch.tensor(1.0)).device == place, "numbers of the CPU may meet tensors of any device"
