"""Is a scan like the training scans? Measures by hand, features by a plain pass, and the sentence for the reader."""

import numpy as np
import pytest
import torch
from support.lesion_patients import grid_of
from xaiengine.lesions.lungs.lungs import Lungs
from xaiengine.lesions.scan_likeness import (
    ScanLikeness,
    compare_with_training,
    feature_distance,
    scan_measures,
    slice_features,
)
from xaiengine.lesions.settings import model_settings
from xaiengine.models import find_model, load_model

GRID = grid_of((1.0, 1.0, 2.5), (60, 60, 30))


def chest(noise, dense=0.0):
    generator = np.random.default_rng(0)
    hu = np.full(GRID.shape, -850.0) + generator.normal(0, noise, GRID.shape)
    lung = np.zeros(GRID.shape, bool)
    lung[5:55, 5:55, 3:27] = True
    count = int(dense * lung.sum())
    where = np.argwhere(lung)[:count]
    hu[tuple(where.T)] = 20.0
    left = lung.copy()
    left[:30] = False
    return hu.astype(np.float32), Lungs(left, lung & ~left, GRID)


@pytest.mark.parametrize("noise", [5.0, 20.0, 60.0])
def test_the_noise_is_the_noise_that_was_added(noise):
    hu, lungs = chest(noise, dense=0.1)
    found = scan_measures(hu, lungs, GRID, 2)
    assert found["noise_hu"] == pytest.approx(noise, rel=0.05)
    assert found["slice_mm"] == 2.5 and found["lung_ml"] == pytest.approx(50 * 50 * 24 * 2.5 / 1000)
    assert found["dense_percent"] == pytest.approx(10.0, abs=0.1)


def test_vessels_do_not_count_as_noise():
    hu, lungs = chest(10.0)
    hu[::6, ::6] = 40.0
    assert scan_measures(hu, lungs, GRID, 2)["noise_hu"] == pytest.approx(10.0, rel=0.1)


def test_the_sentence_names_what_is_unlike_and_nothing_else():
    ranges = {"noise_hu": (3.0, 80.0), "feature_distance": (0.0, 2.2)}
    like = ScanLikeness({"noise_hu": 20.0, "feature_distance": 1.0, "lung_ml": 4000.0}, ranges)
    assert like.unlike == () and like.warning == ""
    unlike = ScanLikeness({"noise_hu": 20.0, "feature_distance": 3.4, "lung_ml": 4000.0}, ranges)
    assert unlike.unlike == ("feature_distance",) and "noise" not in unlike.warning
    assert "3.4 SD; training scans 0 to 2.2" in unlike.warning and "do not trust the burden" in unlike.warning
    assert [row["like the training scans"] for row in unlike.rows()] == ["yes", "no", "not known"]


def test_the_distance_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 2.0], [1.0, 8.0]])
    mean, sd = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
    assert feature_distance(features, mean, sd) == pytest.approx(2.0**0.5)  # 0, sqrt 2, 3 / sqrt 2
    assert feature_distance(features, mean, torch.tensor([1.0, 0.0])) == pytest.approx(2.0**0.5)


def test_the_shipped_model_knows_its_training_slices_and_refuses_noise():
    model = load_model(find_model("lung_lesion_slice_classifier"))
    settings = model_settings(model)
    layer = settings.layer_of(model)
    generator = torch.Generator().manual_seed(0)
    slices = torch.rand(4, 1, 96, 96, generator=generator)
    features = slice_features(model, layer, slices)
    tensors, _ = model.read_reference()
    with torch.no_grad():
        plain = slices
        for part in model.network.features[: int(layer.split(".")[1]) + 1]:
            plain = part(plain)
    torch.testing.assert_close(features, plain.mean((2, 3)), rtol=1e-4, atol=1e-5)
    found = compare_with_training(model, layer, slices, np.full(4, 1e4), {}, settings.training_scans)
    expected = feature_distance(features, tensors["training_mean"], tensors["training_sd"])
    assert found.values["feature_distance"] == pytest.approx(expected) and "feature_distance" in found.unlike
    nothing = compare_with_training(model, layer, slices, np.zeros(4), {"noise_hu": 5.0}, settings.training_scans)
    assert "feature_distance" not in nothing.values, "slices without lung say nothing"
