"""Uncertainty over flips, dropout, folds and seeds, against closed forms of networks whose maps are known."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from support.prediction_models import model_of, session_with
from support.scans import GRIDS, LESION_POINT, Ball, lung_mask, thorax
from support.segmentation_bundles import SMALL_UNET, bright_bundle, bright_scan, write_bundle
from torch import nn
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.evaluation.uncertainty.runs import variations
from xaiengine.evaluation.uncertainty.spread import MapSpread, RunningSpread, stable_share
from xaiengine.evaluation.uncertainty.subnetworks import dropped_units, fold_count, layer_in_fold
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models.formats.averaging import AveragedNetwork, MirroredNetwork, fold_of
from xaiengine.targets.segmentation_targets import VoxelTarget

SIZE = (16, 14, 12)
GRID = Grid(SIZE, np.array([[0, 1.1, 0.2, 5], [-1.4, 0, 0.1, 2], [0.1, 0.2, -2.0, 9], [0, 0, 0, 1.0]]))


class Weighted(nn.Module):
    """Two outputs: 0 and Σ w x, with the given dropout of x; input x gradient of the second is w x."""

    def __init__(self, weights: torch.Tensor, dropout: nn.Module | None = None) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.dropout = dropout or nn.Identity()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        total = (self.dropout(inputs)[:, 0] * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total], 1)


def weights(seed: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def scan(tmp_path) -> Path:
    values = np.random.default_rng(0).uniform(1, 2, SIZE).astype(np.float32)
    return write_volume(tmp_path / "scan.nrrd", Volume(values, GRID, "scan"))


def explain(folder: Path, network: nn.Module, scan: Path, **options):
    model = model_of(spacing=None)
    object.__setattr__(model, "network", network.eval())
    object.__setattr__(model, "preprocessing", list)
    chosen = {"methods": ["input_x_gradient"], "target": "ball", "baseline": "zero", **options}
    chosen |= {"volume": str(scan), "model": "m"}
    job = Job(task="explain-prediction", options=chosen, output=str(folder / "out"))
    return run_job(job, session=session_with(model))


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "out" / name, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def written(folder: Path, name: str) -> np.ndarray:
    volume = read_volume(folder / "out" / name)
    return volume.array


def test_flips_show_where_a_network_has_not_learned_to_see_mirrored(scan, tmp_path):
    """Shown a flipped scan, a linear network gives the map of flipped weights."""
    learned = weights(1)
    result = explain(tmp_path, Weighted(learned), scan, uncertainty="flips", uncertainty_runs=16)
    assert result.status == "finished", result.error
    values = read_volume(scan).array
    flips = [axes for count in range(4) for axes in itertools.combinations(range(3), count)]
    maps = np.stack([np.flip(learned.numpy(), axes) * values for axes in flips])
    expected = maps.std(0, ddof=1)
    np.testing.assert_allclose(written(tmp_path, "uncertainty.nrrd"), expected, rtol=1e-4, atol=1e-6)
    mean = np.abs(maps.mean(0))
    stable = mean[expected <= mean / 2].sum() / mean.sum()
    assert result.values["stable_percent"] == pytest.approx(100 * stable, rel=1e-3)
    sums = [(np.flip(learned.numpy(), axes) * values).sum() for axes in flips]
    assert result.values["target_sd"] == pytest.approx(np.std(sums, ddof=1), rel=1e-4)
    runs = table(tmp_path, "uncertainty.csv")
    assert len(runs) == 8 and runs[0]["run"] == "as reported" and runs[1]["run"] == "flipped along axis 1"
    assert float(runs[1]["value"]) == pytest.approx(sums[1], rel=1e-3)
    assert result.artifact("uncertainty-picture") is not None


def test_dropped_units_spread_as_bernoulli_says(scan, tmp_path):
    """Of w x with x kept by 1 - p and scaled up, the SD is |w x| sqrt(p / (1 - p)), and the mean w x."""
    learned, p = weights(2), 0.3
    network = Weighted(learned, nn.Dropout(p))
    result = explain(tmp_path, network, scan, uncertainty="dropout", uncertainty_runs=64)
    assert result.status == "finished", result.error
    amount = np.abs(learned.numpy() * read_volume(scan).array)
    found = written(tmp_path, "uncertainty.nrrd")
    assert (found / amount).mean() == pytest.approx(np.sqrt(p / (1 - p)), rel=0.03)
    assert result.values["stable_percent"] < 5 and result.values["uncertainty_runs"] == 64
    assert written(tmp_path, "attribution.nrrd") == pytest.approx(learned.numpy() * read_volume(scan).array, rel=1e-4)
    image = torch.ones(2, 1, *SIZE)
    with dropped_units(network, 5):
        first, again = network(image), network(image)
        assert torch.equal(first, again) and torch.equal(first[0], first[1])
    with dropped_units(network, 6):
        assert not torch.equal(network(image), first)
    assert torch.equal(network(image)[0, 1], (learned).sum())


def test_whole_channels_are_dropped_where_the_network_drops_them():
    network = nn.Sequential(nn.Dropout3d(0.5)).eval()
    with dropped_units(network, 1):
        channels = network(torch.ones(2, 40, 3, 3, 3))
    assert set(channels.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(channels.amax((2, 3, 4)), channels.amin((2, 3, 4)))


def test_folds_differ_as_their_weights_do(scan, tmp_path):
    learned = [weights(seed) for seed in (3, 4, 5)]
    network = AveragedNetwork([Weighted(item) for item in learned])
    assert fold_count(network) == 3
    result = explain(tmp_path, network, scan, uncertainty="folds", uncertainty_runs=8)
    assert result.status == "finished", result.error
    values = read_volume(scan).array
    expected = np.stack([item.numpy() * values for item in learned]).std(0, ddof=1)
    np.testing.assert_allclose(written(tmp_path, "uncertainty.nrrd"), expected, rtol=1e-4, atol=1e-6)
    assert [row["run"] for row in table(tmp_path, "uncertainty.csv")] == ["as reported", "fold 0", "fold 1", "fold 2"]
    alone = fold_of(network, 1)(torch.ones(1, 1, *SIZE))
    assert alone[0, 1].item() == pytest.approx(float(learned[1].sum()), rel=1e-5)
    mirrored = fold_of(MirroredNetwork(network, [0, 2]), 1)
    assert fold_count(MirroredNetwork(network, [0, 2])) == 3 and len(mirrored.flips) == 4
    assert layer_in_fold("folds.2.late.0") == "network.late.0"
    assert layer_in_fold("network.folds.0.late") == "network.network.late"


def test_seeds_matter_for_methods_that_draw_and_it_is_said_where_they_do_not(scan, tmp_path):
    methods = ["input_x_gradient", "rise"]
    result = explain(
        tmp_path, Weighted(weights(1)), scan, methods=methods, masks=40, uncertainty="seeds", uncertainty_runs=3
    )
    assert result.status == "finished", result.error
    assert not written(tmp_path, "uncertainty.nrrd").any() and result.values["stable_percent"] == 100
    assert written(tmp_path, "uncertainty-rise.nrrd").any()
    said = " ".join(result.warnings)
    assert "Input x gradient draws no random numbers" in said.replace("×", "x") and "RISE draws no" not in said


@pytest.mark.parametrize("grid_name", ["axial", "oblique", "sagittal_stored"])
def test_a_network_that_does_not_mind_flips_is_stable_in_every_geometry(grid_name, tmp_path):
    """Its weights are symmetric: maps of flipped scans come back to their place in the patient."""
    path = write_volume(tmp_path / "scan.nrrd", thorax(GRIDS[grid_name], (Ball(radius=9.0, value=300),)))
    model = model_of()
    segments = Segmentation.from_masks([Mask("lungs", lung_mask(GRIDS[grid_name]))], GRIDS[grid_name])
    options = {"methods": ["input_x_gradient", "hirescam"], "target": "ball", "baseline": "zero", "volume": str(path)}
    options["segments"] = str(write_segmentation(tmp_path / "lungs.seg.nrrd", segments))
    options |= {"model": "m", "uncertainty": "flips", "uncertainty_runs": 3}
    job = Job(task="explain-prediction", options=options, output=str(tmp_path / "out"))
    result = run_job(job, session=session_with(model))
    assert result.status == "finished", result.error
    largest = np.abs(written(tmp_path, "attribution.nrrd")).max()
    assert written(tmp_path, "uncertainty.nrrd").max() < 0.01 * largest
    assert result.values["stable_percent"] > 99
    for row in table(tmp_path, "regions.csv"):
        assert float(row["SD of part (%)"]) < 0.5
        assert float(row["stable part (%)"]) > 95 if float(row["part of |map| (%)"]) else row["stable part (%)"] == ""
    assert {row["run"] for row in table(tmp_path, "uncertainty.csv")} >= {"flipped along axis 3"}
    assert np.linalg.norm(GRIDS[grid_name].ras_to_index(np.array(LESION_POINT))) > 0


def test_a_segmentation_is_explained_again_at_the_same_voxels(tmp_path):
    """A pointwise network gives every voxel the same answer, however the scan is stored."""
    bundle = bright_bundle(tmp_path / "model")
    mask = bright_scan(tmp_path / "scan.nrrd")
    options = {"methods": ["input_x_gradient"], "receptive_field": False, "baseline": "zero"}
    result = segmented(tmp_path, bundle, **options, uncertainty="flips", uncertainty_runs=7)
    largest = np.abs(written(tmp_path, "attribution.nrrd")).max()
    assert written(tmp_path, "uncertainty.nrrd").max() < 1e-3 * largest
    assert written(tmp_path, "prediction_uncertainty.nrrd").max() < 1e-4
    assert result.values["stable_percent"] == pytest.approx(100, abs=0.1) and result.values["target_sd"] < 1e-4
    runs = table(tmp_path, "uncertainty.csv")
    assert len(runs) == 8 and len({row["value"][:6] for row in runs}) == 1
    ml = mask.sum() * read_volume(tmp_path / "scan.nrrd").grid.voxel_volume_ml
    assert float(runs[3]["volume of bright (mL)"]) == pytest.approx(ml, rel=0.02)


def segmented(folder: Path, bundle: Path, **options):
    job = Job(
        task="explain-segmentation",
        model=str(bundle),
        inputs={"volume": str(folder / "scan.nrrd")},
        options=options,
        output=str(folder / "out"),
    )
    result = run_job(job)
    assert result.status == "finished", result.error
    return result


def folds_explained(folder: Path, folds: list[nn.Module], **options):
    model = model_of("segmentation", labels=("background", "bright"), spacing=None)
    object.__setattr__(model, "network", AveragedNetwork(folds).eval())
    object.__setattr__(model, "preprocessing", list)
    options |= {"volume": str(folder / "scan.nrrd"), "model": "m", "uncertainty": "folds", "receptive_field": False}
    job = Job(task="explain-segmentation", options=options, output=str(folder / "out"))
    result = run_job(job, session=session_with(model))
    assert result.status == "finished", result.error
    return result


def test_folds_of_a_segmentation_differ_as_their_weights_do(tmp_path):
    mask = bright_scan(tmp_path / "scan.nrrd")
    folds = []
    for weight in (2.0, 3.0, 4.0):
        folds.append(nn.Conv3d(1, 2, 1))
        with torch.no_grad():
            folds[-1].weight.copy_(torch.tensor([0.0, weight]).reshape(2, 1, 1, 1, 1))
            folds[-1].bias.copy_(torch.tensor([0.0, -weight]))
    folds_explained(tmp_path, folds, methods=["input_x_gradient"], baseline="zero")
    heat, sd = (written(tmp_path, f"{name}.nrrd") for name in ("attribution", "uncertainty"))
    np.testing.assert_allclose(sd[mask], heat[mask] / 3, rtol=1e-3)  # of weights 2, 3, 4: mean 3, SD 1


def test_folds_are_explained_at_layers_of_their_own(tmp_path):
    bright_scan(tmp_path / "scan.nrrd")
    folds = []
    for seed in range(2):
        torch.manual_seed(seed)
        folds.append(UNet(**SMALL_UNET))
    layer = {"layers": ["folds.0.model.1"]}
    for options in ({}, layer):
        result = folds_explained(tmp_path, folds, methods=["hirescam"], **options)
    assert "left out" not in " ".join(result.warnings)
    assert written(tmp_path, "uncertainty.nrrd").any() and result.values["uncertainty_runs"] == 2


def test_a_direction_in_the_network_shows_in_the_prediction_of_flipped_scans(tmp_path):
    """Its probability is that of the next voxel along the first axis, of the other side for a flipped scan."""
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
    network = nn.Conv3d(1, 2, 3, padding=1)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, 0, 2, 1, 1] = 8.0
        network.bias.copy_(torch.tensor([0.0, -8.0]))
    labels = {"labels": ["background", "bright"]}
    inferer = {"roi_size": [24, 20, 18], "overlap": 0.0}
    bundle = write_bundle(tmp_path / "model", network, definition, explanation=labels, inferer=inferer)
    mask = bright_scan(tmp_path / "scan.nrrd", noise=0.0)
    options = {"methods": ["saliency"], "receptive_field": False, "uncertainty": "flips", "uncertainty_runs": 2}
    segmented(tmp_path, bundle, **options)
    sd = written(tmp_path, "prediction_uncertainty.nrrd")
    borders = np.zeros(mask.shape, bool)  # one voxel before and behind the block, and its own end voxels
    first, last = np.argwhere(mask)[:, 0].min(), np.argwhere(mask)[:, 0].max()
    inner = mask[(first + last) // 2]
    for index in (first - 1, first, last, last + 1):
        borders[index] = inner
    assert sd[borders].min() > 0.4 and sd[~borders].max() < 0.05


def test_targets_turn_with_their_image():
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[1, 2:4, 5] = mask[2, 3, 6] = True
    against = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(0))
    output = torch.randn(1, 3, *mask.shape, generator=torch.Generator().manual_seed(1))
    target = VoxelTarget("t", mask, 3, index=1, against=against)
    turned = target.flipped((0, 2))
    assert torch.equal(turned.full_mask(), mask.flip((0, 2)))
    assert float(turned.value(output.flip((2, 4)))) == pytest.approx(float(target.value(output)), rel=1e-5)


def test_a_flipped_grid_holds_the_same_places():
    turned = GRID.flipped((0, 2))
    for index in ((0, 0, 0), (3, 2, 1), (7, 5, 3)):
        other = (15 - index[0], index[1], 11 - index[2])
        assert turned.index_to_ras(other) == pytest.approx(GRID.index_to_ras(index))


def test_mean_and_sd_are_those_of_all_arrays_together():
    arrays = np.random.default_rng(1).normal(50, 3, (7, 5, 4)) * 1e3
    running = RunningSpread()
    for array in arrays:
        running.add(array)
    np.testing.assert_allclose(running.mean, arrays.mean(0))
    np.testing.assert_allclose(running.sd, arrays.std(0, ddof=1))


def test_the_stable_part_is_weighted_by_the_map():
    assert stable_share(np.array([8.0, -1.0, 1.0, 0.0]), np.array([4.0, 0.5, 0.51, 0.0])) == pytest.approx(0.9)
    assert stable_share(np.zeros(3), np.zeros(3)) == 0.0
    measured = MapSpread("m")
    regions = {"a": np.array([True, True, False, False])}
    for values in ([3.0, 1.0, 4.0, 0.0], [1.0, 1.0, 2.0, 0.0]):
        measured.add_regions(np.array(values), regions)
    assert measured.parts["a"] == [50.0, 50.0] and measured.region_columns("a")["SD of part (%)"] == 0.0


def test_what_cannot_vary_is_refused_before_the_work(scan, tmp_path):
    for source, words in (("dropout", "no dropout layer"), ("folds", "single network")):
        result = explain(tmp_path / source, Weighted(weights(1)), scan, uncertainty=source)
        assert result.status == "failed" and words in result.error.message and result.error.remedy
    assert [item.axes for item in variations("flips", 2, nn.Identity(), [0, 1])] == [(0,), (1,)]
    assert len(variations("flips", 9, nn.Identity(), [0, 1])) == 3


def test_what_it_takes_is_said_before(scan, tmp_path):
    model = model_of(spacing=None)
    object.__setattr__(model, "network", Weighted(weights(1)).eval())
    object.__setattr__(model, "preprocessing", list)
    options = {"methods": ["saliency"], "target": "ball", "volume": str(scan), "model": "m"}
    said = []
    for more in ({}, {"uncertainty": "flips", "uncertainty_runs": 3}):
        job = Job(task="explain-prediction", options={**options, **more}, output=str(tmp_path), only_estimate=True)
        said.append(run_job(job, session=session_with(model)).values["estimate"])
    assert "more run" not in said[0]
    assert "Uncertainty over flips of the scan: 3 more runs" in said[1]
