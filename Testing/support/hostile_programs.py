# ruff: noqa: E501 (payloads are lines of their own)
"""Hostile models by the hundred: every way to name a function in a pickle, in every place that holds one, and graphs,
guards, sizes and code that reach beyond tensors. Each payload would create the canary file and do nothing else."""

from __future__ import annotations

import functools
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from support.hostile_corpus import CORPUS, UNET, bundle, entry, network_argument

FUNCTIONS = (
    *("posix system", "os system", "os popen", "os remove", "subprocess Popen", "subprocess check_output"),
    *("builtins eval", "builtins exec", "builtins open", "builtins getattr", "__builtin__ eval", "runpy run_path"),
    *("importlib import_module", "shutil rmtree", "ctypes CDLL", "torch load", "torch.hub load", "numpy load"),
    *("pickle loads", "webbrowser open", "operator attrgetter", "functools partial", "codecs open", "pty spawn"),
)


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def plainly(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + text(argument) + b"\x85R."


def by_stack(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


def by_memo(module: str, name: str, argument: str) -> bytes:
    """The last two texts that are seen are harmless; the name comes from the memo."""
    stored = text(module) + b"q\x000" + text(name) + b"q\x010" + text("torch") + b"0" + text("Size") + b"0"
    return b"\x80\x02" + stored + b"h\x00h\x01\x93" + text(argument) + b"\x85R."


def by_long_memo(module: str, name: str, argument: str) -> bytes:
    stored = text(module) + b"r\x00\x01\x00\x000" + text(name) + b"r\x01\x01\x00\x000" + text("torch") + text("Size")
    return b"\x80\x02" + stored + b"j\x00\x01\x00\x00j\x01\x01\x00\x00\x93" + text(argument) + b"\x85R."


def by_instance(module: str, name: str, argument: str) -> bytes:
    return b"(" + f"V{argument}\ni{module}\n{name}\n.".encode()


def by_object(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x02(c" + f"{module}\n{name}\n".encode() + text(argument) + b"o."


def by_memoize(module: str, name: str, argument: str) -> bytes:
    stored = text(module) + b"\x940" + text(name) + b"\x940" + text("collections") + b"0" + text("OrderedDict") + b"0"
    return b"\x80\x04" + stored + b"h\x00h\x01\x93" + text(argument) + b"\x85R."


WAYS = (plainly, by_stack, by_memo, by_long_memo, by_instance, by_object, by_memoize)


def register(name: str, words: str, build: Callable[[Path, Path], Path]) -> None:
    assert name not in CORPUS
    CORPUS[name] = (build, words)


def torch_file(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/version", "3\n")
    return stream.getvalue()


def _as_weights(pickled: Callable[[Path], bytes], zipped: bool) -> Callable[[Path, Path], Path]:
    def build(folder: Path, canary: Path) -> Path:
        content = pickled(canary)
        return bundle(folder, {"network_def": UNET}, weights=torch_file(content) if zipped else content)

    return build


for _number, _function in enumerate(FUNCTIONS):
    _module, _name = _function.split()
    for _way in WAYS[:3] if _number >= 6 else WAYS:
        register(
            f"pickle_{_way.__name__}_{_module}_{_name}".replace(".", "_"),
            f"would call {_module}.{_name}",
            _as_weights(
                functools.partial(lambda way, m, n, c: way(m, n, f"touch {c}"), _way, _module, _name), _number % 2 == 0
            ),
        )

_STRANGE = {
    "computed_name": (b"\x80\x02cbuiltins\nstr\n" + text("system") + b"\x85R" + text("os") + b"\x93.", "would call|computed"),
    "name_of_a_tuple": (b"\x80\x02" + text("os") + b"\x85" + text("system") + b"\x93.", "computed"),
    "name_in_a_name": (b"\x80\x04" + text("os system\ntorch") + text("Size") + b"\x93.", "would call"),
    "extension": (b"\x80\x02\x82\x01.", "extension_1"),
    "without_end": (b"\x80\x02" + b"]" * 2_000_000 + b".", "steps"),
    "of_marks": (b"\x80\x02" + b"(" * 1_500_000 + b".", "steps"),
    "empty": (b"", "not a file of torch.save"),
    "of_another_kind": (b"\x80\x05\x95" + b"\xff" * 8 + b".", "not a file of torch.save|more than weights"),
    "with_a_persistent_id": (b"\x80\x02" + text("os.system") + b"Q.", "more than weights|cannot be read|no weights"),
}  # fmt: skip
for _name, (_content, _words) in _STRANGE.items():
    register(f"pickle_{_name}", _words, _as_weights(lambda canary, content=_content: content, False))


@functools.cache
def honest_exported() -> bytes:
    import torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    stream = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.randn(1, 1, 16, 16),)), stream)
    return stream.getvalue()


@functools.cache
def honest_script() -> bytes:
    import torch

    stream = io.BytesIO()
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())
    torch.jit.save(torch.jit.script(net), stream)
    return stream.getvalue()


def rewritten(content: bytes, change: Callable[[str, bytes], bytes], extra: dict[str, bytes]) -> bytes:
    """An archive with each entry changed, and further ones added below its top folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        top = old.namelist()[0].split("/")[0]
        for info in old.infolist():
            if info.filename[len(top) + 1 :] not in extra:
                new.writestr(info.filename, change(info.filename, old.read(info)))
        for name, data in extra.items():
            new.writestr(f"{top}/{name}", data)
    return stream.getvalue()


def exported(put: Callable[[Path], dict[str, bytes]] = lambda canary: {}, found: bytes = b"", by: bytes = b""):
    def build(folder: Path, canary: Path) -> Path:
        path = folder / "model.pt2"
        path.write_bytes(
            rewritten(honest_exported(), lambda name, data: data.replace(found, by) if found else data, put(canary))
        )
        return path

    return build


_PLACES = {
    "data/weights/model.pt": "posix.system",
    "data/constants/model.pt": "posix.system",
    "data/sample_inputs/model.pt": "posix.system",
    "data/constants/custom_obj_0": "no part",
    "data/constants/opaque_obj_0": "no part",
    "data/weights/opaque_obj_0": "no part",
    "data/aotinductor/model/run.so": "compiled",
    "data/aotinductor/model/run.py": "compiled",
    "models/other.json": "no part",
    "executorch/model.pte": "no part",
    "../../canary": "odd name",
    "extra/../../x": "odd name",
}
for _place, _words in _PLACES.items():
    for _way in (plainly, by_memo, by_memoize):
        register(
            f"exported_{_place}_{_way.__name__}".replace("/", "_").replace(".", "_"),
            _words,
            exported(lambda canary, place=_place, way=_way: {place: way("posix", "system", f"touch {canary}")}),
        )

_RELU = b"torch.ops.aten.relu.default"
for _target in (
    *("torch.os.system", "torch.load", "torch.hub.load", "torch.jit.load", "torch.ops.load_library", "math.os.system"),
    *("_operator.attrgetter", "_operator.methodcaller", "torch.ops.aten.from_file.default", "#custom:os.system"),
    *("torch.ops.aten.save.default", "torch.ops.higher_order.cond", "torch.ops.prims.x.default", "torch._C._jit"),
    *("torch.ops.aten.relu.default.__globals__", "torch.ops.aten.__init__.__globals__", "torch.utils.os.popen"),
):
    register(f"exported_target_{_target}".replace(".", "_"), "graph calls", exported(found=_RELU, by=_target.encode()))
for _number, _guard in enumerate(
    (
        "__import__('os')",
        "L['x'].__class__",
        "[1 for x in y]",
        "(lambda: 1)()",
        "x.system('y')",
        "2**99**99",
        "f'{x}'",
        "x := 1",
    )
):
    register(
        f"exported_guard_{_number}",
        "guard",
        exported(found=b'"guards_code": []', by=b'"guards_code": ["' + _guard.encode() + b'"]'),
    )
for _number, _size in enumerate(
    (
        "__import__",
        "s0.evalf",
        "9**9**9**9",
        "2**999999",
        "(lambda: 1)",
        "\\uff45\\uff56\\uff41\\uff4c(1)",
        "exec(s0)",
        "s0 " * 400,
    )
):
    register(
        f"exported_size_{_number}",
        "no plain expression",
        exported(found=b'"guards_code": []', by=b'"guards_code": [], "x": {"expr_str": "' + _size.encode() + b'"}'),
    )
register(
    "exported_giant_weight",
    "pretends",
    exported(found=b'"sizes": [{"as_int": 2}]', by=b'"sizes": [{"as_int": 999999999}]'),
)
register("exported_pickled_weight", "pickle", exported(found=b'"use_pickle": false', by=b'"use_pickle": true'))
register(
    "exported_weight_elsewhere",
    "stored as",
    exported(found=b'"path_name": "weight_0"', by=b'"path_name": "../weight_0"'),
)


def scripted(line: str, name: str = "", put: dict[str, bytes] | None = None):
    """A scripted network with a line before the first return of its forward."""

    def change(file: str, data: bytes) -> bytes:
        if not file.endswith(".py"):
            return data
        return data.replace(b"    return", f"    {line}\n    return".encode(), 1) if line else data

    def build(folder: Path, canary: Path) -> Path:
        path = folder / "model.ts"
        path.write_bytes(rewritten(honest_script(), change, {key: value for key, value in (put or {}).items()}))
        return path

    return build


for _number, _line in enumerate(
    (
        *(
            "torch.save(input, 'canary')",
            "torch .save(input, 'canary')",
            "_x = torch.save",
            "ops.aten.save(input, 'c')",
        ),
        *("ops.aten . save(input, 'c')", "torch.from_file('c', True, 9)", "torch.load('c')", "input.save('c')"),
        *(
            "ops.prim.Print(input)",
            "print(input)",
            "open('c')",
            "ops.custom.run(input)",
            "ops.image.write_file('c', input)",
        ),
        *("ops.cuda.x(input)", "__torch__.torch.classes.x.Y(1)", "import os", "(lambda: 1)()", "while True: pass"),
        *(
            "for i in range(999999999): pass",
            "exec('x')",
            "eval('x')",
            "ops.aten.set_(input, input)",
            "getattr(self, '__setstate__')()",
        ),
        *(
            "self.__setstate__(1)",
            "ops.prim.rpc_sync('a')",
            "ops.prim.fork(input)",
            "ops.prim.PythonOp(1)",
            "torch.ops.x()",
        ),
        *(
            "torch.hub.load('c')",
            "ops.quantized.linear_prepack(input)",
            "ops.aten.data_x(1)",
            "torch.classes.load('c')",
        ),
    )
):
    register(f"script_line_{_number}", "the code|cannot be read", scripted(_line))
register(
    "script_setstate",
    "while the file is loaded",
    scripted(
        "",
        put={"code/__torch__/x.py": b"class X(Module):\n  def __setstate__(self, s: int) -> None:\n    return None\n"},
    ),
)
register(
    "script_method_save",
    "operator on files",
    scripted("", put={"code/__torch__/x.py": b"def save(x: int) -> int:\n  return x\n"}),
)
register("script_pickle", "would make", scripted("", put={"constants.pkl": plainly("posix", "system", "x")}))
register("script_pickle_by_memo", "would make", scripted("", put={"data.pkl": by_memo("posix", "system", "x")}))
register("script_foreign_entry", "no part", scripted("", put={"lib/run.so": b"\x7fELF"}))
register("script_long_code", "longer", scripted("", put={"code/__torch__/x.py": b"# x\n" * 2_000_000}))
register(
    "script_deep_code",
    "cannot be read",
    scripted("", put={"code/__torch__/x.py": b"x = " + b"(" * 5000 + b"1" + b")" * 5000}),
)
register("script_letters", "letters", scripted("", put={"code/__torch__/x.py": "x = ｅｖａｌ\n".encode()}))

for _number, _expression in enumerate(
    (
        *("[[[x for x in range(9999)] for y in range(9999)] for z in range(9999)]", "sum([[1]*9999]*9999, [])"),
        *(
            "str([[[[0]*9999]*9999]*99])",
            "[[0]*9999]*9999 == [[0]*9999]*9999",
            "round(1.5, 10**15)",
            "round(10**15, -9999999)",
        ),
        *(
            "sorted([[0]*9999]*9999)",
            "max([[0]*9999]*9999)",
            "[str(x) for x in [[0]*9999]*9999]",
            "2**64**2",
            "'a'*10**9",
        ),
        *("len([0]*10**10)", "list(range(10**12))", "((((((2**60)**60)**60))))", "[[1]*9999 for x in range(9999)]"),
        *(
            "globals()",
            "vars()",
            "dir()",
            "type('x', (), {})",
            "setattr(1, 'a', 2)",
            "memoryview(b'')",
            "input()",
            "help()",
        ),
        *(
            "@network_def.__class__",
            "torch.os.system('x')",
            "monai.os.system('x')",
            "numpy.ctypeslib.load_library('x', 'y')",
        ),
    )
):
    register(
        f"expression_{_number}", "", lambda folder, canary, value=_expression: network_argument(folder, f"${value}")
    )

for _name, _network in {
    "a_million_layers": {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 8, "blocks_down": [1_000_000], "blocks_up": [1]},
    "a_wide_network": {**UNET, "channels": [1_000_000, 2_000_000]},
    "many_residual_units": {**UNET, "num_res_units": 1_000_000},
    "many_blocks": {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "block_config": [1_000_000]},
    "many_transformers": {
        "_target_": "ViT", "in_channels": 1, "img_size": [32, 32], "patch_size": [8, 8], "hidden_size": 12, "mlp_dim": 12,
        "num_layers": 1_000_000, "num_heads": 3, "spatial_dims": 2,
    },
}.items():  # fmt: skip
    register(
        f"network_of_{_name}",
        "far more|modules|too large|too often",
        lambda folder, canary, net=_network: entry(folder, network_def=net),
    )
