"""Lesions from a scan: measured against planted truth, in any geometry, with every method and setting."""

from dataclasses import replace

import numpy as np
import pytest
from host.bright_lesion import write_model
from support.lesion_patients import LESION_AT, RADIUS, SHAPE, grid_of, patient
from xaiengine.core.errors import ModelError, OptionError
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.lesions.pipeline import quantify_scan, scan_units
from xaiengine.lesions.regions import LungRegions, lung_regions
from xaiengine.lesions.settings import LesionSettings, MethodSettings, lesion_settings
from xaiengine.models import load_model
from xaiengine.tasks.quantify_lesions.options import QuantifyLesionsOptions


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "bright")


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


def quantify(model, volume, lungs, **changes):
    more = {key: changes.pop(key) for key in ("repeats", "seed", "reference") if key in changes}
    settings = LesionSettings(**{"threshold_method": "otsu", "layer": "net.layer_0", **changes})
    return quantify_scan(volume, model, settings, LungRegions(lungs), target=1, **more)


@pytest.fixture(scope="module")
def found(model):
    volume, lungs, ball = patient()
    return quantify(model, volume, lungs, reference=ball)


def test_the_planted_lesion_is_found_and_measured(found):
    truth = patient()[2]
    lesion = found.quantification.lesions[0]
    assert len(found.quantification.lesions) == 1 and lesion.lung == "left lung"
    assert np.linalg.norm(np.array(lesion.centroid_ras) - LESION_AT) < 3.0
    assert found.comparison.dice > 0.6 and found.comparison.false_ml == 0
    assert found.comparison.reference_ml == pytest.approx(truth.sum() * 0.045)


def test_the_map_sums_to_the_bits_of_all_slices(found):
    assert found.bits.sum() == pytest.approx(found.maps.bits.sum(), rel=0.03)
    assert found.maps.bits[~found.maps.explained].sum() == 0


def test_slices_without_a_lesion_stay_dark(found):
    heights = found.maps.grid.index_to_ras(np.array([[0, 0, k] for k in range(SHAPE[2])]))[:, 2]
    touched = np.abs(heights - LESION_AT[2]) < RADIUS - 3
    assert (found.maps.probability[touched] > 0.6).all()
    far = np.abs(heights - LESION_AT[2]) > RADIUS
    assert (found.maps.probability[far] < 0.1).all() and not found.maps.explained[far].any()
    assert found.bits[..., np.abs(heights - LESION_AT[2]) > RADIUS + 5].max() == 0


def test_a_healthy_scan_has_no_bits_no_lesions_and_is_ct0(model):
    volume, lungs, _ = patient(lesion=False)
    healthy = quantify(model, volume, lungs)
    assert healthy.bits.max() == 0 and not healthy.labels.any()
    assert healthy.quantification.severity.label == "CT-0" and healthy.quantification.total.percent == 0


def test_one_density_threshold_serves_every_voxel_size(model):
    volumes = []
    for spacing, shape in (((3.0, 3.0, 5.0), (60, 56, 20)), ((2.0, 2.0, 5.0), (90, 84, 20))):
        volume, lungs, _ = patient(grid_of(spacing, shape))
        methods = {"iba": MethodSettings(layer="net.layer_0", healthy={0.01: 0.5})}
        result = quantify(model, volume, lungs, threshold_method="calibrated", methods=methods)
        volumes.append(result.quantification.total.lesion_ml)
        assert result.threshold.value == pytest.approx(0.5 * spacing[0] * spacing[1] / 100)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.15)


def test_scan_units_turn_bits_per_area_of_slice_into_bits_per_voxel():
    # 2 x 3 mm pixels on slices 5 mm apart: 0.06 cm² a voxel; half as thick a voxel takes half of it
    assert scan_units(grid_of((2.0, 3.0, 5.0)), 5.0) == pytest.approx(0.06)
    assert scan_units(grid_of((2.0, 3.0, 2.5)), 5.0) == pytest.approx(0.03)


def test_the_same_seed_gives_the_same_map_and_repeats_give_the_spread(model, found):
    volume, lungs, _ = patient()
    again = quantify(model, volume, lungs, repeats=3)
    assert np.array_equal(again.bits, found.bits)
    assert again.spread[0].seeds == 3 and again.spread[0].sd_percent >= 0
    other = quantify(model, volume, lungs, seed=5)
    assert not np.array_equal(other.bits, found.bits)


@pytest.mark.parametrize(("method", "least"), [("inverse-iba", 0.1), ("grad-cam", 0.5), ("grad-cam++", 0.5)])
def test_other_methods_go_the_same_way(model, method, least):
    volume, lungs, ball = patient()
    result = quantify(model, volume, lungs, method=method, reference=ball)
    assert result.comparison.dice > least


def test_calibration_interpolates_on_a_log_axis_and_refuses_to_extrapolate():
    settings = MethodSettings(healthy={0.001: 4.0, 0.1: 2.0})
    assert settings.threshold(0.001) == 4.0
    assert settings.threshold(0.01) == pytest.approx(3.0)
    with pytest.raises(OptionError, match="0.001 to 0.1"):
        settings.threshold(0.5)
    with pytest.raises(OptionError, match="no calibration"):
        MethodSettings().threshold(0.01)


def test_the_users_options_take_the_place_of_the_models(model):
    own = {"quantify-lesions": {"minimum_volume": 2.0, "method": "inverse-iba", "denser_than": -600}}
    tuned = replace(model, defaults=own)
    settings = lesion_settings(tuned, QuantifyLesionsOptions(volume="x", minimum_volume=0.5, method="model"))
    assert (settings.minimum_volume, settings.method, settings.denser_than) == (0.5, "inverse-iba", -600)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold_method": "absolute"}, "none was given"),
        ({"threshold": 0.5}, "calibrated"),
        ({"layer": "net.layer_1"}, "calibration belongs"),
    ],
)
def test_options_that_contradict_one_another_are_refused(model, options, words):
    with pytest.raises(OptionError, match=words):
        lesion_settings(model, QuantifyLesionsOptions(volume="x", **options))


def test_wrong_settings_of_a_model_name_the_entry(model):
    with pytest.raises(ModelError, match="minimum_volum"):
        lesion_settings(
            replace(model, defaults={"quantify-lesions": {"minimum_volum": 1}}), QuantifyLesionsOptions(volume="x")
        )


def test_lungs_by_name_by_place_and_by_lobe():
    volume, lungs, _ = patient()
    whole = Segmentation.from_masks([Mask("lungs", lungs.combined)], volume.grid, "one")
    placed = lung_regions(volume, whole)
    assert np.array_equal(placed.lungs.left, lungs.left) and np.array_equal(placed.lungs.right, lungs.right)
    upper = lungs.left & (np.arange(SHAPE[2]) > 10)
    masks = [
        Mask("lung_upper_lobe_left", upper),
        Mask("lung_lower_lobe_left", lungs.left & ~upper),
        Mask("Right lung", lungs.right),
    ]
    placed = lung_regions(volume, Segmentation.from_masks(masks, volume.grid, "lobes"))
    assert np.array_equal(placed.lungs.left, lungs.left) and np.array_equal(placed.lungs.right, lungs.right)
    assert sorted(placed.lobes) == ["lung_lower_lobe_left", "lung_upper_lobe_left"]
