"""Hostile models that hide in details of formats: forms of inputs, names of arguments, second names of operators,
calls of harmless functions, entries that lie on one another."""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from support.hostile_corpus import UNET, bundle, hostile, saved
from support.hostile_programs import exported, register, scripted, text, torch_file

_FORWARD = b'"forward_arg_names": ["input"]'
_DICT = json.dumps('"type": "builtins.dict", "context": "[]"')[1:-1].encode()


def _form(kind: str, context: object) -> bytes:
    return json.dumps(f'"type": "{kind}", "context": {json.dumps(context)}')[1:-1].encode()


def importing(folder: Path, canary: Path) -> str:
    """A module that would create the canary, where Python finds it: as beside a model in the current folder."""
    name = f"module_beside_{folder.name}"
    (folder / f"{name}.py").write_text(
        f"open({str(canary)!r}, 'w')\nfrom enum import Enum\nmade = Enum('made', 'x')\n"
    )
    sys.path.append(str(folder))
    return name


@hostile("inputs or outputs hold")
def exported_input_imports_a_module(folder, canary):
    context = {
        "default_factory_module": importing(folder, canary),
        "default_factory_name": "made",
        "dict_context": [],
    }
    return exported(found=_DICT, by=_form("collections.defaultdict", context))(folder, canary)


@hostile("inputs or outputs hold")
def exported_input_of_an_enumeration(folder, canary):
    context = json.dumps([{"__enum__": True, "fqn": f"{importing(folder, canary)}:made", "name": "x"}])
    return exported(found=_DICT, by=_form("builtins.dict", context))(folder, canary)


for _name, _found, _by, _words in (
    ("argument_with_a_default", b'"input"', b"\"input=__import__('os').system('touch canary')\"", "no name"),
    ("argument_of_two_lines", b'"input"', b'"input):\\n  pass\\ndef f("', "no name"),
    ("named_tuple", _DICT, _form("collections.namedtuple", "x"), "hold a"),
    ("unknown_form", b'[1, {\\"type', b'[2, {\\"type', "not known"),
    ("torchx", b"torch.ops.aten.relu.default", b"torchx.ops.aten.from_file.default", "graph calls"),
    ("torch_by_operator", b"torch.ops.aten.relu.default", b"_operatorx.attrgetter", "graph calls"),
    ("math_like", b"torch.ops.aten.relu.default", b"mathx.floor.__self__", "graph calls"),
    ("weight_for_operator", b"torch.ops.aten.relu.default", b"weight", "graph calls"),
    ("node_name", b'"name": "relu"', b'"name": "relu; import os"', "no name"),
    ("weight_name", b'"parameter_name": "0.weight"', b'"parameter_name": "0.weight(\'x\')"', "no name"),
    ("named_types", b'"treespec_namedtuple_fields": {}', b'"treespec_namedtuple_fields": {"os": 1}', "holds"),
    ("module_stack", b'"L__self__,,torch', b'"L__self__,`touch canary`,torch', "modules"),
    ("range_of_code", b'"range_constraints": {}', b'"range_constraints": {"exec(1)": {}}', "no plain expression"),
):
    register(f"exported_{_name}", _words, exported(found=_found, by=_by))

for _number, _line in enumerate(
    (
        "t = ops; t.prim.rpc_sync('a')",
        "t = ops; t.image.write_file('c', input)",
        "rpc_sync = ops; y = rpc_sync.prim.rpc_sync('a')",
        "t = torch; t.jit.load('c')",
        "t = __torch__; t.torch.classes.x.Y(1)",
        "[ops][0].prim.rpc_sync('a')",
        "ops = input",
        "torch: int = 3",
    )
):
    register(f"script_renames_{_number}", "gives .* another name|no method", scripted(_line))


def called(name: str, *arguments: bytes) -> bytes:
    """A dictionary of one entry, which calling a name with these arguments would give."""
    module, _, function = name.rpartition(".")
    many = b"".join(arguments) + {1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(arguments)]
    return b"\x80\x02}" + text("a") + b"c" + f"{module}\n{function}\n".encode() + many + b"Rs."


def doubling() -> bytes:
    """Each call of a codec doubles the text of the one before: 2**40 bytes."""
    inner = text("a" * 32) + text("latin1") + b"\x86R"
    for _ in range(35):
        inner += text("hex") + b"\x86R"
    return b"\x80\x02" + b"c_codecs\nencode\n" * 36 + inner + b"."


def array(kind: bytes, shape: bytes, content: bytes) -> bytes:
    rebuilt = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    return b"\x80\x03}" + text("a") + rebuilt + b"(K\x01" + shape + kind + b"\x89" + content + b"tbs."


_HELD = "more than weights|cannot be read"
_OBJECTS = b"cnumpy\ndtype\n" + text("O") + b"\x85R"
_FLOATS = b"cnumpy\ndtype\n" + text("f4") + b"\x85R"
for _name, (_content, _words) in {
    "doubling_codec": (doubling(), "recode"),
    "slow_codec": (called("_codecs.encode", text("a." * 100_000), text("idna")), "recode"),
    "compressing_codec": (called("_codecs.encode", text("a" * 100_000), text("zlib")), "recode"),
    "codec_by_memo": (called("_codecs.encode", text("a") + b"q\x07", text("bz2") + b"q\x08"), "recode"),
    "memory_as_it_lies": (called("torch.Tensor", b"J\xff\xff\xff\x7f"), "without values"),
    "storage_as_it_lies": (called("torch.FloatStorage", b"J\xff\xff\xff\x7f"), "without values"),
    "array_as_it_lies": (called("numpy.ndarray", b"J\xff\xff\xff\x7f\x85"), "without values"),
    "pointers_in_an_array": (array(_OBJECTS, b"K\x03\x85", b"C\x18" + b"\x41" * 24), _HELD),
    "array_of_objects": (array(_OBJECTS, b"K\x01\x85", b"]" + text("x") + b"a"), _HELD),
    "array_of_more_than_its_bytes": (array(_FLOATS, b"J\xff\xff\xff\x7f\x85", b"C\x04abcd"), _HELD),
    "flags_of_a_type": (
        b"\x80\x02}" + text("a") + _FLOATS + b"(K\x03" + text("@") + b"NNNK\x09K\x01K\x3ftbs.",
        _HELD,
    ),
}.items():  # fmt: skip

    def _in_a_bundle(folder: Path, canary: Path, content: bytes = _content) -> Path:
        return bundle(folder, {"network_def": UNET}, weights=torch_file(content))

    register(f"pickle_{_name}", _words, _in_a_bundle)


def on_one_another(count: int, size: int) -> bytes:
    """A checkpoint whose directory names one stretch of bytes many times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/data/0", bytes(size))
        first = archive.infolist()[1]
        for number in range(1, count):
            again = zipfile.ZipInfo(f"model/data/{number}")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(again, field, getattr(first, field))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    return stream.getvalue()


def many_pickles() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(30):
            archive.writestr(f"model/{number}/data.pkl", b"\x80\x02" + b"N0" * 250_000 + b"N.")
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO(saved({"a": 1}))
    with zipfile.ZipFile(stream, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        archive.filelist.append(archive.getinfo(f"{top}/data.pkl"))
        archive._didModify = True
    return stream.getvalue()


for _name, (_made, _words) in {
    "entries_on_one_another": (lambda: on_one_another(5000, 2**20), "more bytes than it has"),
    "many_pickles": (many_pickles, "30 pickles"),
    "a_pickle_twice": (twice, "twice"),
}.items():

    def _archive(folder: Path, canary: Path, made: Callable[[], bytes] = _made) -> Path:
        return bundle(folder, {"network_def": UNET}, weights=made())

    register(f"checkpoint_with_{_name}", _words, _archive)


@hostile("grows without measure")
def script_of_entries_on_one_another(folder, canary):
    path = folder / "model.ts"
    path.write_bytes(_compressed(900, 15 * 2**20))
    return path


def _compressed(count: int, size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/code/x0.py", b"".join(struct.pack("<I", i % 9973) for i in range(size // 4)))
        first = archive.infolist()[1]
        for number in range(1, count):
            again = zipfile.ZipInfo(f"m/code/x{number}.py")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(again, field, getattr(first, field))
            archive.filelist.append(again)
    return stream.getvalue()


def onnx_model(folder: Path, nodes: list, tensors: list = (), shared: int = 0) -> Path:  # type: ignore[assignment]
    """A classifier with further nodes between its last value ``f`` and its output ``y``."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    first = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
    ]
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 1, 16, 16))
    answer = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([*first, *nodes], "net", [image], [answer], [weights, *tensors])
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


@hostile("out of proportion")
def onnx_constant_of_a_constant_shape(folder, canary):
    import numpy as np
    from onnx import helper, numpy_helper

    sizes = numpy_helper.from_array(np.array([40_000, 40_000], np.int64), "s")
    return onnx_model(
        folder,
        [
            helper.make_node("Constant", [], ["s"], value=sizes),
            helper.make_node("ConstantOfShape", ["s"], ["k"]),
            helper.make_node("ReduceSum", ["k"], ["r"], keepdims=0),
            helper.make_node("Add", ["f", "r"], ["y"]),
        ],
    )


@hostile("more than 10000 operators")
def onnx_of_countless_operators(folder, canary):
    from onnx import helper

    names = ["f", *(f"v{number}" for number in range(11_000)), "y"]
    return onnx_model(folder, [helper.make_node("Relu", [a], [b]) for a, b in zip(names, names[1:])])


@hostile("over and over")
def onnx_weights_over_and_over(folder, canary):
    from onnx import TensorProto, helper

    (folder / "w.data").write_bytes(bytes(10_000_000))
    tensors = []
    for number in range(500):
        tensor = TensorProto(name=f"e{number}", data_type=1, dims=[2_500_000], data_location=1)
        tensor.external_data.add(key="location", value="w.data")
        tensors.append(tensor)
    return onnx_model(folder, [helper.make_node("Identity", ["f"], ["y"])], tensors)
