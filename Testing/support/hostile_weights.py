"""Weight files made to do harm."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

from support.hostile_corpus import UNET, Payload, bundle, entry, hostile, saved, touch


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
