"""Bundles in the style of the MONAI Model Zoo, written from the documented schema, with small networks.

Each entry is the content of ``configs/inference.*``; what an inference configuration usually holds beside the network
(data lists, handlers, the evaluator, statements) is there too, because it must not be in the way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
LOAD = {"_target_": "LoadImaged", "keys": "image"}
FIRST = {"_target_": "EnsureChannelFirstd", "keys": "image"}
RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
TYPED = {"_target_": "EnsureTyped", "keys": "image"}


def spacing(*pixdim: float, **options: Any) -> dict[str, Any]:
    return {"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear", **options}


def window(low: float, high: float) -> dict[str, Any]:
    limits = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **limits}


def compose(*steps: Any) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(steps)}


def sliding(*roi: int, **options: Any) -> dict[str, Any]:
    return {"_target_": "SlidingWindowInferer", "roi_size": list(roi), "sw_batch_size": 2, "overlap": 0.5, **options}


def inference(network: Any, preprocessing: Any, inferer: Any = None, sigmoid: bool = False, **extra: Any) -> dict:
    """A whole inference configuration, as the Model Zoo writes it."""
    return {
        "imports": ["$import glob", "$import os", "$import json"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data/images",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "listing": "$json.load(open(os.path.join(@dataset_dir, 'dataset.json'), 'r'))",
        "device": DEVICE,
        **extra,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing,
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
        "inferer": inferer or {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            {"_target_": "Activationsd", "keys": "pred", **({"sigmoid": True} if sigmoid else {"softmax": True})},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: torch.where(x[[2]] > 0, 4, 0)"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {"_target_": "StatsHandler", "iteration_log": False},
        ],
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "inferer": "@inferer", "amp": True},
        "initialize": [
            "$monai.utils.set_determinism(seed=123)",
            "$setattr(torch.backends.cudnn, 'benchmark', True)",
        ],
        "run": ["$@evaluator.run()"],
    }


ZOO: dict[str, dict[str, Any]] = {
    "spleen_unet": inference(
        {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8, 16],
            "strides": [2, 2],
            "num_res_units": 2,
            "norm": "batch",
        },
        compose(LOAD, FIRST, RAS, spacing(2.0, 2.0, 2.5), window(-57, 164), TYPED),
        sliding(16, 16, 16),
    ),
    "brain_tumor_segresnet": inference(
        {
            "_target_": "SegResNet",
            "blocks_down": [1, 2],
            "blocks_up": [1],
            "init_filters": 8,
            "in_channels": "$@modalities",
            "out_channels": 3,
            "dropout_prob": 0.2,
        },
        compose(
            LOAD, FIRST, {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
        ),
        sliding(24, 24, 16),
        sigmoid=True,
        modalities=1,
    ),
    "whole_body_segresnet": inference(
        {
            "_target_": "SegResNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 5,
            "init_filters": 8,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
        {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {**LOAD, "keys": "@image_key"},
                {**TYPED, "keys": "@image_key"},
                {**FIRST, "keys": "@image_key"},
                {**RAS, "keys": "@image_key"},
                {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
                {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True},
                {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0, "maxv": 1.0},
            ],
        },
        sliding(16, 16, 16, padding_mode="replicate", mode="gaussian", overlap="@displayable_configs#sw_overlap"),
        image_key="image",
        displayable_configs={"highres": False, "sw_overlap": 0.25},
        pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [2.5, 2.5, 2.5]",
        output_dtype="$np.float32",
    ),
    "organs_swin_unetr": inference(
        {
            "_target_": "SwinUNETR",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 14,
            "feature_size": 12,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 2],
            "use_checkpoint": True,
        },
        compose({**LOAD, "reader": "NibabelReader"}, FIRST, RAS, spacing(2.0, 2.0, 2.0), window(-175, 250), TYPED),
        sliding(64, 64, 64, overlap=0.0, sw_batch_size=1),
    ),
    "deepedit_dynunet": inference(
        {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": "@number_intensity_ch",
            "out_channels": "$len(@label_names)",
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, [2, 2, 1]],
            "upsample_kernel_size": [2, [2, 2, 1]],
            "filters": [4, 8, 16],
            "norm_name": "instance",
            "deep_supervision": False,
            "res_block": True,
        },
        {"_target_": "Compose", "transforms": "$@preprocessing_transforms + @extra_transforms"},
        label_names={"spleen": 1, "background": 0},
        spatial_size=[24, 24, 16],
        number_intensity_ch=1,
        preprocessing_transforms=[LOAD, FIRST, RAS, window(-175, 250)],
        extra_transforms=[
            {"_target_": "Resized", "keys": "image", "spatial_size": "@spatial_size", "mode": "area"},
            TYPED,
        ],
    ),
    "pathology_densenet": inference(
        {"_target_": "DenseNet121", "spatial_dims": 3, "in_channels": 1, "out_channels": "$len(@class_names)"},
        compose(
            LOAD,
            FIRST,
            {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 1},
            {"_target_": "Resized", "keys": "image", "spatial_size": [32, 32, 32]},
            {
                "_target_": "ScaleIntensityRangePercentilesd",
                "keys": "image",
                "lower": 1,
                "upper": 99,
                "b_min": 0,
                "b_max": 1,
            },
        ),
        class_names=["a", "b", "c"],
    ),
    "prostate_unet": inference(
        {
            "_target_": "monai.networks.nets.UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "channels": "$[2 * x for x in [2, 4, 8]]",
            "strides": [2, 2],
            "num_res_units": 1,
            "norm": "batch",
            "act": "prelu",
            "dropout": 0.15,
        },
        compose(
            LOAD,
            FIRST,
            RAS,
            spacing(2.0, 2.0, 3.0),
            {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0, "maxv": 1},
            {"_target_": "NormalizeIntensityd", "keys": "image"},
            TYPED,
        ),
        sliding(16, 16, 16),
    ),
    "cardiac_slices_unet": inference(
        {
            "_target_": "UNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 4,
            "channels": [4, 8, 16],
            "strides": [2, 2],
            "num_res_units": 2,
        },
        compose({**LOAD, "image_only": False}, FIRST, {"_target_": "ScaleIntensityd", "keys": "image"}, TYPED),
        {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2, "overlap": 0.25},
    ),
    "liver_attention_unet": inference(
        {
            "_target_": "AttentionUnet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8, 16],
            "strides": [2, 2],
        },
        [LOAD, FIRST, RAS, {"_target_": "SpatialPadd", "keys": ["image"], "spatial_size": [32, 32, 32]}],
        sliding(32, 32, 32, overlap=0.0),
    ),
    "lesion_vnet": inference(
        {"_target_": "VNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "dropout_prob_down": None},
        compose(
            {**LOAD, "keys": ["image", "label"], "allow_missing_keys": True},
            {**FIRST, "keys": ["image", "label"], "allow_missing_keys": True},
            {**RAS, "keys": ["image", "label"], "allow_missing_keys": True},
            {
                "_target_": "Spacingd",
                "keys": ["image", "label"],
                "pixdim": [2.0, 2.0, 2.0],
                "mode": ["bilinear", "nearest"],
                "allow_missing_keys": True,
            },
            {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 2, "allow_missing_keys": True},
            {"_target_": "DivisiblePadd", "keys": "image", "k": 16},
            window(-200, 300),
        ),
        sliding(32, 32, 32, mode="gaussian", sigma_scale=0.25),
    ),
    "hippocampus_segresnet_ds": inference(
        {
            "_target_": "SegResNetDS",
            "init_filters": 8,
            "blocks_down": [1, 1],
            "norm": ["INSTANCE", {"affine": True}],
            "in_channels": 1,
            "out_channels": 3,
            "dsdepth": 2,
        },
        compose(
            LOAD, FIRST, RAS, {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [16, -1, -1]}, "@norm"
        ),
        {"_target_": "SlidingWindowInfererAdapt", "roi_size": [16, 16, 16], "overlap": 0.625, "mode": "gaussian"},
        norm={"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": 10.0, "divisor": "$2 * 50.0"},
    ),
    "scan_resnet": inference(
        {
            "_target_": "monai.networks.nets.resnet10",
            "spatial_dims": 3,
            "n_input_channels": 1,
            "num_classes": 2,
            "widen_factor": 0.25,
            "feed_forward": True,
        },
        compose(
            LOAD,
            FIRST,
            {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": [32, 32, 24]},
            {"_target_": "ThresholdIntensityd", "keys": "image", "threshold": -900, "above": True, "cval": -900},
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ),
    ),
    "plus_plus_unet": inference(
        {
            "_target_": "BasicUNetPlusPlus",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "features": [4, 4, 8, 8, 16, 4],
            "deep_supervision": False,
        },
        compose(LOAD, FIRST, {"_target_": "ScaleIntensityd", "keys": "image"}),
        sliding(32, 32, 16),
    ),
}

SLOW = ("organs_swin_unetr", "lesion_vnet", "pathology_densenet", "liver_attention_unet", "whole_body_segresnet")
SLOW += ("prostate_unet", "scan_resnet")
AS_YAML = ("prostate_unet", "lesion_vnet")


def write_bundle(folder: Path, name: str, weights: bytes) -> Path:
    """A bundle of the zoo on disk."""
    root = folder / name
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    if name in AS_YAML:
        import yaml

        text = yaml.safe_dump(ZOO[name], sort_keys=False)
        (root / "configs" / "inference.yaml").write_text(text, encoding="utf-8")
    else:
        (root / "configs" / "inference.json").write_text(json.dumps(ZOO[name], indent=2), encoding="utf-8")
    (root / "models" / "model.pt").write_bytes(weights)
    logging = "[loggers]\nkeys=root\n\n[handlers]\nkeys=consoleHandler\n\n[formatters]\nkeys=fullFormatter\n\n"
    logging += "[logger_root]\nlevel=INFO\nhandlers=consoleHandler\n\n[handler_consoleHandler]\nclass=StreamHandler\n"
    logging += (
        "level=INFO\nformatter=fullFormatter\nargs=(sys.stdout,)\n\n[formatter_fullFormatter]\nformat=%(message)s\n"
    )
    (root / "configs" / "logging.conf").write_text(logging, encoding="utf-8")
    return root
