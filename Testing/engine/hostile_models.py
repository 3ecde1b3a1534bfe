"""Models made to do harm: each builder writes one below a folder and says by which words it must be refused.

Every payload, if it ran, would create the canary file. Run as a program, this loads every model of the corpus and
prints, as JSON, how each was refused and what that took.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Builder = Callable[[Path, Path], Path]
CORPUS: dict[str, tuple[Builder, str]] = {}
UNET = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 4],
    "strides": [2],
}


class Payload:
    """Unpickling it would call ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(words: str):
    """Register a builder under its own name; ``words`` is a pattern that the refusal's message must match."""

    def register(builder: Builder) -> Builder:
        CORPUS[builder.__name__] = (builder, words)
        return builder

    return register


def bundle(folder: Path, inference: Any, name: str = "inference.json", weights: bytes | None = None) -> Path:
    root = folder / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    text = inference if isinstance(inference, str) else json.dumps(inference)
    (root / "configs" / name).write_text(text, encoding="utf-8")
    (root / "models" / "model.pt").write_bytes(honest_weights() if weights is None else weights)
    return root


def honest_weights() -> bytes:
    from monai.networks.nets import UNet

    arguments = {key: value for key, value in UNET.items() if key != "_target_"}
    return saved(UNet(**arguments).state_dict())


def saved(content: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def touch(canary: Path) -> str:
    return f"{sys.executable} -c \"open(r'{canary}','w')\""


def entry(folder: Path, **changes: Any) -> Path:
    """A bundle whose configuration is honest but for these entries."""
    return bundle(folder, {"network_def": UNET, **changes})


def network_argument(folder: Path, expression: Any) -> Path:
    return entry(folder, network_def={**UNET, "in_channels": expression})


def step(folder: Path, *steps: Any) -> Path:
    return entry(folder, preprocessing={"_target_": "Compose", "transforms": list(steps)})


# --- weights ---------------------------------------------------------------------------------------------------


@hostile("system")
def pickle_that_calls_os_system(folder, canary):
    import os

    return bundle(folder, {"network_def": UNET}, weights=pickle.dumps(Payload(os.system, touch(canary)), protocol=2))


@hostile("eval")
def pickle_that_evaluates(folder, canary):
    return bundle(folder, {"network_def": UNET}, weights=pickle.dumps(Payload(eval, f"open(r'{canary}','w')"), 2))


@hostile("exec")
def pickle_of_protocol_4(folder, canary):
    return bundle(folder, {"network_def": UNET}, weights=pickle.dumps(Payload(exec, f"open(r'{canary}','w')"), 4))


@hostile("system")
def torch_file_that_calls_os_system(folder, canary):
    import os

    return bundle(folder, {"network_def": UNET}, weights=saved({"a": Payload(os.system, touch(canary))}))


@hostile("getattr|Popen|system")
def torch_file_with_payload_between_weights(folder, canary):
    import subprocess

    import torch

    state = OrderedDict(weight=torch.zeros(3), hook=Payload(subprocess.Popen, ["touch", str(canary)]))
    return bundle(folder, {"network_def": UNET}, weights=saved({"state_dict": state}))


@hostile("open")
def old_torch_file_with_payload(folder, canary):
    content = saved({"a": Payload(open, str(canary), "w")}, _use_new_zipfile_serialization=False)
    return bundle(folder, {"network_def": UNET}, weights=content)


@hostile("UNet|would call")
def whole_pickled_network(folder, canary):
    from monai.networks.nets import UNet as Network

    network = Network(**{key: value for key, value in UNET.items() if key != "_target_"})
    return bundle(folder, {"network_def": UNET}, weights=saved(network))


@hostile("compressed")
def torch_file_that_is_a_zip_bomb(folder, canary):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}, 2))
        with archive.open("model/data/0", "w", force_zip64=True) as data:
            for _ in range(64):
                data.write(bytes(2**22))
    return bundle(folder, {"network_def": UNET}, weights=stream.getvalue())


@hostile("pretends")
def tensor_larger_than_its_storage(folder, canary):
    import torch

    weight = torch.zeros(1).expand(2**20, 2**20)
    return bundle(folder, {"network_def": UNET}, weights=saved({"weight": weight}))


@hostile("bytearray")
def pickle_that_fills_the_memory(folder, canary):
    return bundle(folder, {"network_def": UNET}, weights=saved({"a": Payload(bytearray, 2**36)}))


@hostile("not a file of torch.save|cannot be read|no weights|more than weights")
def deeply_nested_pickle(folder, canary):
    content = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    return bundle(folder, {"network_def": UNET}, weights=content)


@hostile("header of")
def safetensors_with_an_oversize_header(folder, canary):
    root = entry(folder)
    (root / "models" / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    return root


@hostile("header of")
def safetensors_with_a_header_beyond_the_file(folder, canary):
    root = entry(folder)
    (root / "models" / "model.safetensors").write_bytes(struct.pack("<Q", 15 * 2**20) + b"{}")
    return root


@hostile("not valid safetensors")
def safetensors_with_lying_offsets(folder, canary):
    root = entry(folder)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    (root / "models" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return root


@hostile("unreadable header")
def safetensors_with_a_deep_header(folder, canary):
    root = entry(folder)
    header = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    (root / "models" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return root


# --- targets ---------------------------------------------------------------------------------------------------


@hostile("os.system")
def target_os_system(folder, canary):
    return entry(folder, network_def={"_target_": "os.system", "command": touch(canary)})


@hostile("subprocess.Popen")
def target_subprocess(folder, canary):
    return entry(folder, network_def={"_target_": "subprocess.Popen", "args": ["touch", str(canary)]})


@hostile("builtins.eval")
def target_eval(folder, canary):
    return entry(folder, network_def={"_target_": "builtins.eval", "source": f"open(r'{canary}','w')"})


@hostile("os.system")
def target_by_an_attribute_chain(folder, canary):
    return entry(folder, network_def={"_target_": "monai.networks.nets.torch.os.system", "command": touch(canary)})


@hostile("torch.load|utils")
def target_torch_load_through_a_layer_module(folder, canary):
    return entry(folder, network_def={"_target_": "torch.nn.modules.module.torch.load", "f": str(canary)})


@hostile("torch.hub.load")
def target_torch_hub(folder, canary):
    return entry(folder, network_def={"_target_": "torch.hub.load", "repo_or_dir": "x/y", "model": "z"})


@hostile("download_url")
def target_that_downloads(folder, canary):
    return entry(folder, network_def={"_target_": "monai.apps.utils.download_url", "url": "http://x", "filepath": "y"})


@hostile("convert_to_torchscript|save_state")
def target_function_that_writes_a_file(folder, canary):
    return entry(folder, network_def={"_target_": "monai.networks.utils.save_state", "src": {}, "path": str(canary)})


@hostile("CellSamWrapper")
def target_network_that_reads_a_file(folder, canary):
    return entry(folder, network_def={"_target_": "monai.networks.nets.CellSamWrapper", "checkpoint": str(canary)})


@hostile("__import__|expression|asks for")
def target_that_is_an_expression(folder, canary):
    return entry(folder, network_def={"_target_": "$__import__('os').system", "command": touch(canary)})


@hostile("os.system")
def target_nested_in_arguments(folder, canary):
    return network_argument(folder, {"_target_": "os.system", "command": touch(canary)})


@hostile("scripts.network.Net")
def target_in_the_bundles_own_scripts(folder, canary):
    root = entry(folder, network_def={"_target_": "scripts.network.Net"})
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").write_text(f"open(r'{canary}','w')", encoding="utf-8")
    (root / "scripts" / "network.py").write_text(f"open(r'{canary}','w')\nclass Net: pass", encoding="utf-8")
    return root


@hostile("debug")
def target_run_in_the_debugger(folder, canary):
    return entry(folder, network_def={**UNET, "_mode_": "debug"})


@hostile("import os")
def requirement_that_runs_code(folder, canary):
    return entry(folder, network_def={**UNET, "_requires_": "$import os"})


@hostile("os.system")
def target_in_an_unused_entry(folder, canary):
    return entry(folder, handlers=[{"_target_": "os.system", "command": touch(canary)}])


# --- expressions -----------------------------------------------------------------------------------------------


@hostile("import os")
def expression_import(folder, canary):
    return network_argument(folder, "$import os")


@hostile("__import__")
def expression_dunder_import(folder, canary):
    return network_argument(folder, f"$__import__('os').system({touch(canary)!r})")


@hostile("os.system")
def expression_os_system_after_import(folder, canary):
    return entry(folder, imports=["$import os"], initialize=[f"$os.system({touch(canary)!r})"])


@hostile("os.system")
def expression_through_monai(folder, canary):
    return network_argument(folder, f"$monai.utils.module.os.system({touch(canary)!r})")


@hostile("__class__")
def expression_attribute_chain(folder, canary):
    return network_argument(folder, "$().__class__.__bases__[0].__subclasses__()")


@hostile("open")
def expression_open(folder, canary):
    return network_argument(folder, f"$open(r'{canary}', 'w')")


@hostile("exec")
def expression_exec(folder, canary):
    return network_argument(folder, f"$exec(\"open(r'{canary}','w')\")")


@hostile("torch.load")
def expression_torch_load(folder, canary):
    return network_argument(folder, f"$torch.load(r'{canary}', weights_only=False)")


@hostile("Lambda|refused")
def expression_lambda(folder, canary):
    return network_argument(folder, f"$(lambda: print({str(canary)!r}))()")


@hostile("write_text|refused")
def expression_method_of_a_path(folder, canary):
    return network_argument(folder, f"$pathlib.Path(r'{canary}').write_text('x')")


@hostile("NamedExpr|refused")
def expression_assignment(folder, canary):
    return network_argument(folder, "$(x := 1)")


@hostile("format|JoinedStr|attribute")
def expression_text_formatting(folder, canary):
    return network_argument(folder, "$'{0.__class__}'.format(1)")


@hostile("power|number")
def expression_with_a_giant_number(folder, canary):
    return network_argument(folder, "$9**9**9**9")


@hostile("repeats|items")
def expression_with_a_giant_list(folder, canary):
    return network_argument(folder, "$[[[0] * 9999] * 9999] * 9999999")


@hostile("characters|nested|readable|refused")
def expression_nested_beyond_reason(folder, canary):
    return network_argument(folder, "$" + "(" * 900 + "1" + ")" * 900)


# --- transforms and inferers -----------------------------------------------------------------------------------


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


# --- references, macros, networks without measure --------------------------------------------------------------


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


# --- YAML, JSON, logging ---------------------------------------------------------------------------------------


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


# --- archives and links ----------------------------------------------------------------------------------------


def packed(folder: Path, extra: Callable[[zipfile.ZipFile], None]) -> Path:
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/inference.json", json.dumps({"network_def": UNET}))
        archive.writestr("models/model.pt", honest_weights())
        extra(archive)
    return path


@hostile("leads out")
def zip_path_traversal(folder, canary):
    return packed(folder, lambda archive: archive.writestr(f"../../{canary.name}", "x"))


@hostile("leads out")
def zip_absolute_path(folder, canary):
    return packed(folder, lambda archive: archive.writestr(str(canary), "x"))


@hostile("leads out")
def zip_windows_path(folder, canary):
    return packed(folder, lambda archive: archive.writestr("C:\\evil\\canary", "x"))


@hostile("is a link")
def zip_symbolic_link(folder, canary):
    link = zipfile.ZipInfo("configs/metadata.json")
    link.external_attr = 0o120777 << 16
    return packed(folder, lambda archive: archive.writestr(link, "/etc/passwd"))


@hostile("grows from")
def zip_bomb(folder, canary):
    return packed(folder, lambda archive: archive.writestr("configs/metadata.json", bytes(2**28)))


@hostile("files, which no model does")
def zip_of_countless_files(folder, canary):
    def fill(archive):
        for number in range(20_000):
            archive.writestr(f"configs/{number}.json", "{}")

    return packed(folder, fill)


@hostile("outside the model")
def link_to_weights_outside(folder, canary):
    root = entry(folder)
    (folder / "elsewhere.pt").write_bytes(honest_weights())
    (root / "models" / "model.pt").unlink()
    (root / "models" / "model.pt").symlink_to(folder / "elsewhere.pt")
    return root


@hostile("outside the model|leads nowhere")
def link_to_a_device(folder, canary):
    root = entry(folder)
    (root / "configs" / "metadata.json").symlink_to("/dev/zero")
    return root


@hostile("leads nowhere")
def link_to_itself(folder, canary):
    root = entry(folder)
    (root / "models" / "loop").symlink_to(root / "models" / "loop")
    return root


def main(folder: Path) -> None:
    """Build and load every model of the corpus below a folder, and print what happened to each."""
    import torch
    from xaiengine.models import load_model

    torch.set_num_threads(1)
    canary = folder / "canary"
    warm_up(folder)
    report = {}
    for name, (build, _words) in CORPUS.items():
        place = folder / name
        place.mkdir()
        try:
            path = build(place, canary)
        except (OSError, NotImplementedError) as error:  # no links on this file system
            report[name] = {"skipped": str(error)}
            continue
        before, clock = peak_bytes(), time.process_time()
        try:
            load_model(path)
            found = {"error": "", "message": "was loaded"}
        except Exception as error:
            found = {"error": type(error).__name__, "message": str(error), "remedy": getattr(error, "remedy", "")}
        found["seconds"] = time.process_time() - clock
        found["bytes"] = peak_bytes() - before
        found["canary"] = canary.exists()
        canary.unlink(missing_ok=True)
        report[name] = found
    print(json.dumps(report))


def warm_up(folder: Path) -> None:
    """Imports are not the hostile models' doing: load an honest one first."""
    from xaiengine.models import load_model

    (folder / "honest").mkdir()
    load_model(bundle(folder / "honest", {"network_def": UNET}))


def peak_bytes() -> int:
    """Most memory this process has held so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
