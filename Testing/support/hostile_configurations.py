"""Bundles whose transforms, references or files of settings are made to do harm."""

from __future__ import annotations

import json

from support.hostile_corpus import UNET, bundle, entry, hostile, step, touch


@hostile("lambda|Lambda")
def transform_lambda(folder, canary):
    return step(folder, {"_target_": "Lambdad", "keys": "image", "func": f"$lambda x: print(r'{canary}')"})


@hostile("Lambdad")
def transform_lambda_with_a_reference(folder, canary):
    return step(folder, {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "builtins.exec"})


@hostile("select_fn|lambda")
def transform_with_a_function(folder, canary):
    return step(folder, {"_target_": "CropForegroundd", "keys": "image", "select_fn": f"$lambda x: open(r'{canary}')"})


@hostile("reader|PILReader|monai.data|asks for")
def transform_with_its_own_reader(folder, canary):
    reader = {"_target_": "monai.data.image_reader.NumpyReader", "allow_pickle": True}
    return step(folder, {"_target_": "LoadImaged", "keys": "image", "reader": reader})


@hostile("SaveImage")
def transform_that_writes_files(folder, canary):
    return step(folder, {"_target_": "SaveImaged", "keys": "image", "output_dir": str(canary.parent)})


@hostile("monai.transforms.utils|asks for")
def transform_by_an_attribute_chain(folder, canary):
    return step(folder, {"_target_": "monai.transforms.utils.torch.os.system", "command": touch(canary)})


@hostile("too large")
def transform_that_fills_the_memory(folder, canary):
    return step(folder, {"_target_": "Resized", "keys": "image", "spatial_size": [4000, 4000, 4000]})


@hostile("scripts.evil")
def inferer_of_its_own(folder, canary):
    return entry(folder, inferer={"_target_": "scripts.evil.Inferer"})


@hostile("refers to itself")
def reference_to_itself(folder, canary):
    return entry(folder, network_def={**UNET, "in_channels": "@a"}, a="@b", b="@a")


@hostile("refers to itself")
def reference_to_itself_in_an_expression(folder, canary):
    return entry(folder, network_def={**UNET, "in_channels": "$@a + 1"}, a="$@b + 1", b="$@a + 1")


@hostile("without end|no entry")
def macros_that_refer_to_each_other(folder, canary):
    return entry(folder, network_def="%a", a="%b", b="%a")


@hostile("nested too deeply|without end|too much")
def macros_that_double(folder, canary):
    doubling = {f"m{number}": [f"%m{number + 1}"] * 10 for number in range(12)}
    return entry(folder, network_def={**UNET, "channels": "%m0"}, **doubling, m12=1)


@hostile("outside the model")
def macro_to_a_file_outside(folder, canary):
    (folder / "secret.json").write_text(json.dumps({"net": UNET}), encoding="utf-8")
    return entry(folder, network_def="%../secret.json#net")


@hostile("outside the model")
def macro_to_an_absolute_path(folder, canary):
    secret = folder / "secret.json"
    secret.write_text(json.dumps({"net": UNET}), encoding="utf-8")
    return entry(folder, network_def=f"%{secret.resolve().as_posix()}#net")


@hostile("far more than its weights")
def network_that_fills_the_memory(folder, canary):
    return entry(folder, network_def={**UNET, "channels": [60_000, 120_000]})


@hostile("too large")
def network_with_a_giant_argument(folder, canary):
    return entry(folder, network_def={**UNET, "channels": [2**40, 2]})


@hostile("far more than its weights|too many")
def network_of_endless_depth(folder, canary):
    network = {"_target_": "FullyConnectedNet", "in_channels": 1, "out_channels": 1, "hidden_channels": "@sizes"}
    return entry(folder, network_def=network, sizes="$[500] * 9999")


@hostile("download|do not fit|cannot be built|weights")
def network_that_would_download(folder, canary):
    return entry(
        folder, network_def={"_target_": "EfficientNetBN", "model_name": "efficientnet-b0", "pretrained": True}
    )


@hostile("python/object/apply:os.system")
def yaml_object_tag(folder, canary):
    return bundle(folder, f'network_def: !!python/object/apply:os.system ["{canary}"]', "inference.yaml")


@hostile("python/name:os.system")
def yaml_name_tag(folder, canary):
    return bundle(folder, "network_def: !!python/name:os.system", "inference.yml")


@hostile("nested|too much")
def yaml_aliases_that_multiply(folder, canary):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return bundle(folder, "\n".join([*lines, "network_def: *a11"]), "inference.yaml")


@hostile("nested|too much")
def yaml_alias_of_itself(folder, canary):
    return bundle(folder, "network_def: &a [*a]", "inference.yaml")


@hostile("nested too deeply|valid YAML")
def deeply_nested_yaml(folder, canary):
    return bundle(folder, "network_def: " + "[" * 20_000 + "]" * 20_000, "inference.yaml")


@hostile("nested too deeply")
def deeply_nested_json(folder, canary):
    return bundle(folder, '{"network_def": ' + "[" * 100_000 + "]" * 100_000 + "}")


@hostile("logging.conf")
def logging_configuration_with_a_class(folder, canary):
    root = entry(folder)
    text = "[handlers]\nkeys=h\n[handler_h]\nclass=os.system\nargs=('touch canary',)\n"
    (root / "configs" / "logging.conf").write_text(text, encoding="utf-8")
    return root


@hostile("logging.conf")
def logging_configuration_with_arguments(folder, canary):
    root = entry(folder)
    text = f"[handler_h]\nclass=StreamHandler\nargs=(open(r'{canary}', 'w'),)\n"
    (root / "configs" / "logging.conf").write_text(text, encoding="utf-8")
    return root
