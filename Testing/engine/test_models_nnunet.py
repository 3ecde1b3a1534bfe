"""nnU-Net v2 trainings: preprocessing and prediction of nnunetv2 itself, on a small training done here."""

import copy
import json
import pydoc
import shutil
import warnings

import nibabel
import numpy as np
import pytest
import torch
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.inference.prediction import predict_scan
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.volume_files import read_volume
from xaiengine.models import load_model
from xaiengine.models.formats.nnunet_preparation import coarse_axis
from xaiengine.models.formats.nnunet_windows import window_starts, window_weights

pytest.importorskip("dynamic_network_architectures", reason="pip install --no-deps dynamic-network-architectures")

DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "organ": 1, "lesion": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
STATISTICS = {"mean": 20.0, "std": 80.0, "percentile_00_5": -150.0, "percentile_99_5": 250.0}


def architecture(dims, name="PlainConvUNet"):
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * 3,
            "strides": [[1] * dims, [2] * dims, [2] * dims],
            blocks: [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(scheme="CTNormalization", transpose=(0, 1, 2), network="PlainConvUNet", **changes):
    shared = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [scheme == "ZScoreNormalization"],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "batch_dice": False,
        **changes,
    }
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": STATISTICS},
        "configurations": {
            "3d_fullres": {
                **shared,
                "patch_size": [12, 16, 16],
                "spacing": [2.5, 1.5, 1.5],
                "architecture": architecture(3, network),
            },
            "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [3.5, 2.5, 2.5]},
            "2d": {**shared, "patch_size": [16, 20], "spacing": [1.5, 1.5], "architecture": architecture(2)},
        },
    }


@pytest.fixture
def scan(tmp_path):
    """A scan with an empty border, coarse slices and axes that run against nnU-Net's."""
    generator = np.random.default_rng(3)
    values = np.zeros((32, 30, 14))
    values[3:29, 2:28, 1:13] = generator.normal(30, 60, (26, 26, 12)) + 1000 * (generator.random((26, 26, 12)) > 0.995)
    values[10:18, 10:18, 4:9] += 120
    affine = np.array([[-1.1, 0, 0, 12], [0, 1.2, 0, -30], [0, 0, 4.0, 7], [0, 0, 0, 1.0]])
    path = tmp_path / "case_0000.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    return path


def save_training(folder, plan, configuration, networks, dataset=DATASET):
    """What nnU-Net's trainer writes: plans, dataset and a checkpoint for each fold."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    for number, network in enumerate(networks):
        (folder / f"fold_{number}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(),
            "grad_scaler_state": None,
            "logging": {"train_losses": [np.float32(0.5)], "mean_fg_dice": [np.float64(0.1)], "lrs": [0.01]},
            "_best_ema": np.float64(0.3),
            "current_epoch": 2,
            "init_args": {
                "plans": plan,
                "configuration": configuration,
                "fold": number,
                "dataset_json": dataset,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": tuple(range(len(plan["configurations"]["2d"]["patch_size"])))
            if configuration == "2d"
            else (0, 1, 2),
        }
        torch.save(checkpoint, folder / f"fold_{number}" / "checkpoint_final.pth")
    return folder


def new_network(plan, configuration, seed):
    """The network as nnU-Net builds it, after a few steps of training on noise with bright spots."""
    chosen = plan["configurations"][configuration]
    built = chosen.get("architecture") or plan["configurations"]["3d_fullres"]["architecture"]
    patch = chosen.get("patch_size") or plan["configurations"]["3d_fullres"]["patch_size"]
    arguments = dict(built["arch_kwargs"])
    for name in built["_kw_requires_import"]:
        arguments[name] = arguments[name] and pydoc.locate(arguments[name])
    torch.manual_seed(seed)
    network = pydoc.locate(built["network_class_name"])(
        input_channels=1, num_classes=3, deep_supervision=False, **arguments
    )
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for _ in range(4):
        batch = torch.randn(2, 1, *patch)
        truth = (batch[:, 0] > 1).long() + (batch[:, 0] > 2).long()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(batch), truth).backward()
        optimizer.step()
    return network.eval()


def nnunet_logits(plan, configuration, networks, scan, mirroring, monkeypatch):
    """nnunetv2's own preprocessing and prediction, in float32 where it would round its sums to half precision."""
    reason = "nnunetv2 with its dependencies is needed to compare with it"
    module = pytest.importorskip("nnunetv2.inference.predict_from_raw_data", reason=reason, exc_type=ImportError)
    from functools import partial

    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    monkeypatch.setattr(module, "compute_gaussian", partial(module.compute_gaussian, dtype=torch.float32))
    monkeypatch.setattr(torch, "half", torch.float32)
    predictor = module.nnUNetPredictor(
        use_mirroring=mirroring, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    manager = PlansManager(plan)
    chosen = manager.get_configuration(configuration)
    parameters = [network.state_dict() for network in networks]
    axes = tuple(range(len(chosen.patch_size)))
    predictor.manual_initialization(
        copy.deepcopy(networks[0]), manager, chosen, parameters, DATASET, "nnUNetTrainer", axes
    )
    data, _, _ = DefaultPreprocessor(verbose=False).run_case([str(scan)], None, manager, chosen, DATASET)
    data = torch.from_numpy(data)
    return data, predictor.predict_logits_from_preprocessed_data(data).float()


@pytest.mark.parametrize(
    ("configuration", "changes"),
    [
        ("3d_fullres", {}),
        pytest.param("3d_lowres", {"scheme": "ZScoreNormalization", "transpose": (2, 0, 1)}, marks=pytest.mark.slow),
        pytest.param("2d", {}, marks=pytest.mark.slow),
        ("3d_fullres", {"network": "ResidualEncoderUNet", "scheme": "RescaleTo01Normalization"}),
        (
            "3d_fullres",
            {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {"is_seg": False}},
        ),
    ],
)
def test_prediction_equals_nnunets_own(configuration, changes, scan, tmp_path, monkeypatch):
    plan = plans(**changes)
    network = new_network(plan, configuration, 1)
    model = load_model(save_training(tmp_path / "training", plan, configuration, [network]))
    prepared = preprocess(read_volume(scan), model.preprocessing())
    ours = predict_scan(model, prepared)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data, theirs = nnunet_logits(plan, configuration, [network], scan, False, monkeypatch)
    tensor = prepared.tensor
    if configuration == "2d":  # slices come last here, first there
        tensor, ours = tensor.movedim(3, 1), ours.movedim(3, 1)
    assert tensor.shape == data.shape
    assert (tensor - data).abs().max() <= 1e-4 * data.abs().max()
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert torch.equal(ours.argmax(0), theirs.argmax(0))
    assert model.labels == ("background", "organ", "lesion")
    assert model.layers


def test_folds_are_averaged_and_mirrored_as_nnunet_does(scan, tmp_path, monkeypatch):
    plan = plans()
    networks = [new_network(plan, "3d_fullres", seed) for seed in (1, 2)]
    folder = save_training(tmp_path / "training", plan, "3d_fullres", networks)
    (folder / "explanation.json").write_text(json.dumps({"mirroring": True}), encoding="utf-8")
    model = load_model(folder)
    ours = predict_scan(model, preprocess(read_volume(scan), model.preprocessing()))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, theirs = nnunet_logits(plan, "3d_fullres", networks, scan, True, monkeypatch)
    assert "2 folds" in model.format
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert torch.equal(ours.argmax(0), theirs.argmax(0))


def test_one_fold_may_be_given_by_its_folder(tmp_path):
    plan = plans()
    networks = [new_network(plan, "3d_fullres", seed) for seed in (1, 2)]
    folder = save_training(tmp_path / "training", plan, "3d_fullres", networks)
    model = load_model(folder / "fold_1")
    batch = torch.randn(1, 1, 16, 16, 16)
    assert torch.allclose(model.predict(batch), networks[1](batch))


def test_the_lesion_stays_at_its_place_in_the_patient(scan, tmp_path):
    """A bright cube comes out of crop, transposition and resampling where its affine says it is."""
    plan = plans(transpose=(1, 0, 2))
    model = load_model(save_training(tmp_path / "training", plan, "3d_fullres", [new_network(plan, "3d_fullres", 1)]))
    volume = read_volume(scan)
    array = np.where(volume.array != 0, 1.0, 0.0)
    array[10:18, 10:18, 4:9] = 200.0
    prepared = preprocess(volume.with_array(array), model.preprocessing())
    bright = np.argwhere(prepared.tensor[0].numpy() > 0.5 * prepared.tensor[0].numpy().max())
    found = prepared.grid.index_to_ras(bright.mean(0))
    expected = volume.grid.index_to_ras([13.5, 13.5, 6.0])
    assert np.abs(found - expected).max() <= max(prepared.grid.spacing) / 2


def test_a_cascade_is_refused_with_the_reason(tmp_path):
    plan = plans()
    network = new_network(plan, "3d_fullres", 1)
    plan["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    with pytest.raises(ModelError, match="3d_lowres"):
        load_model(save_training(tmp_path / "training", plan, "3d_fullres", [network]))


def test_a_foreign_network_class_is_refused(tmp_path):
    plan = plans()
    network = new_network(plan, "3d_fullres", 1)
    plan["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"
    with pytest.raises(TrustError, match="os.system"):
        load_model(save_training(tmp_path / "training", plan, "3d_fullres", [network]))


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ModelError, match="checkpoint_final.pth"):
        load_model(save_training(tmp_path / "training", plans(), "3d_fullres", []))


def test_plans_of_older_versions_give_the_same_network(tmp_path):
    plan = plans()
    network = new_network(plan, "3d_fullres", 1)
    old = plan["configurations"]["3d_fullres"]
    del old["architecture"]
    old.update(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=4,
        unet_max_num_features=8,
        n_conv_per_stage_encoder=[1, 1, 1],
        n_conv_per_stage_decoder=[1, 1],
        pool_op_kernel_sizes=[[1] * 3, [2] * 3, [2] * 3],
        conv_kernel_sizes=[[3] * 3] * 3,
    )
    model = load_model(save_training(tmp_path / "training", plan, "3d_fullres", [network]))
    batch = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(model.predict(batch), network(batch))


def test_regions_are_outputs_with_sigmoid(tmp_path):
    plan = plans()
    network = new_network(plan, "3d_fullres", 1)
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    dataset = {**DATASET, "labels": regions, "regions_class_order": [1, 2, 3]}
    model = load_model(save_training(tmp_path / "training", plan, "3d_fullres", [network], dataset))
    assert model.labels == ("whole", "core", "enhancing")
    assert model.activation == "sigmoid"


@pytest.mark.parametrize("size", [16, 17, 24, 40, 63])
def test_windows_lie_where_nnunet_puts_them(size):
    module = pytest.importorskip("nnunetv2.inference.sliding_window_prediction", reason="nnunetv2 is not installed")
    steps = module.compute_steps_for_sliding_window((size, 20), (16, 12), 0.5)
    assert window_starts((size, 20), (16, 12)) == [(first, second) for first in steps[0] for second in steps[1]]
    theirs = module.compute_gaussian((16, 12), dtype=torch.float32, device=torch.device("cpu"))
    assert torch.allclose(window_weights((16, 12)), theirs, atol=1e-7)


def test_the_coarse_axis_is_resampled_by_itself():
    assert coarse_axis([5.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 0
    assert coarse_axis([1.0, 1.0, 1.0], [1.0, 1.0, 4.0]) == 2
    assert coarse_axis([2.0, 1.0, 1.0], [1.0, 1.0, 1.0]) is None
    assert coarse_axis([0.2, 1.0, 1.0], [1.0, 1.0, 1.0]) is None
    assert coarse_axis([5.0, 1.0, 1.0], [1.0, 1.0, 1.0], forced=False) is None


NAMED = "Dataset001_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture
def results(tmp_path):
    """A results folder with one training, as nnU-Net (and TotalSegmentator) lays it out."""
    plan = plans()
    network = new_network(plan, "3d_fullres", 0)
    save_training(tmp_path / "results" / NAMED, plan, "3d_fullres", [network])
    return tmp_path / "results"


def test_a_training_is_found_one_level_below_two_levels_below_and_in_an_archive(results, tmp_path):
    batch = torch.randn(1, 1, 32, 32, 32)
    direct = load_model(results / NAMED).predict(batch)
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", results)
    for place in (results / "Dataset001_Test", results, archive, next((results / NAMED).glob("fold_0/*.pth"))):
        assert torch.equal(load_model(place).predict(batch), direct), place
    assert "nnUNetTrainer__nnUNetPlans__3d_fullres is used" in " ".join(load_model(results).notes)


def test_of_several_trainings_one_must_be_chosen(results):
    shutil.copytree(results / NAMED, results / "Dataset001_Test/nnUNetTrainer__nnUNetPlans__2d")
    with pytest.raises(ModelError, match="2 nnU-Net trainings.*__2d; nnUNetTrainer__nnUNetPlans__3d_fullres"):
        load_model(results / "Dataset001_Test")


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_missing_file_of_a_training_is_named(name, results):
    (results / NAMED / name).unlink()
    for place in (results / NAMED, results, next((results / NAMED).glob("fold_0/*.pth"))):
        with pytest.raises(ModelError, match=name):
            load_model(place)
