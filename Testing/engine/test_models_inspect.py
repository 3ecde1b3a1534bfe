"""The commands inspect, describe-model and cache: what a panel, a shell user and a cluster need of a model."""

import json

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import (
    UNet,
)
from support.organ_network import UNET, describe_organ, organ_weights
from torch import nn
from xaiengine.app.commands_models import cache_command, describe_model_command, inspect_command
from xaiengine.app.inspection import inspect_model
from xaiengine.core.errors import ModelError, OptionError
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.models import load_model


@pytest.fixture
def weights(tmp_path):
    return organ_weights(tmp_path)


@pytest.fixture
def described(weights):
    return describe_organ(weights)


@pytest.fixture
def scan(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 28, 26)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_inspect_prints_all_that_a_panel_needs_as_json(described, capsys):
    assert inspect_command([str(described), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labels"] == ["background", "organ"]
    assert report["spacing"] == [2.0, 2.0, 2.0]
    assert report["window"] == [32, 32, 32]
    assert report["parameters"] == sum(parameter.numel() for parameter in UNet(**UNET).parameters())
    assert report["capabilities"]["layers"]
    defaults = [row["name"] for row in report["layers"] if row["default"]]
    assert defaults == [report["default_layer"]]
    assert len(report["digest"]) == 64


def test_inspect_prints_a_table_for_readers(described, capsys):
    assert inspect_command([str(described)]) == 0
    text = capsys.readouterr().out
    for words in ("segmentation", "background, organ", "32 x 32 x 32", "bottleneck", "model.0", "MB"):
        assert words in text


def test_inspect_says_who_chose_the_default_layer(described):
    assert "nearest 8 voxels" in inspect_model(load_model(described)).default_reason
    content = json.loads(described.with_suffix(".json").read_text(encoding="utf-8"))
    described.with_suffix(".json").write_text(json.dumps({**content, "layers": ["model.0"]}), encoding="utf-8")
    report = inspect_model(load_model(described))
    assert report.default_layer == "model.0" and "author" in report.default_reason


def test_inspect_with_an_image_gives_volumes(described, scan, capsys):
    assert inspect_command([str(described), "--image", str(scan), "--json"]) == 0
    volumes = json.loads(capsys.readouterr().out)["prediction"]["volumes_ml"]
    assert volumes["background"] + volumes["organ"] == pytest.approx(30 * 28 * 26 * 8 / 1000, rel=0.01)


def test_inspect_narrows_the_table_by_wildcards(described, capsys):
    inspect_command([str(described), "--json", "--layers", "model.0*"])
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["layers"]]
    assert names and all(name.startswith("model.0") for name in names)
    with pytest.raises(ModelError, match="no layer"):
        inspect_command([str(described), "--layers", "modell.0"])


def test_a_scan_of_other_channels_is_refused(described, tmp_path):
    values = np.zeros((2, 30, 28, 26), np.float32)
    content = json.loads(described.with_suffix(".json").read_text(encoding="utf-8"))
    content["network"]["in_channels"] = 2
    content["channel_names"] = ["T1", "T2"]
    torch.save(UNet(**{**UNET, "in_channels": 2}).state_dict(), described)
    described.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    from xaiengine.inference.prediction import predict_scan
    from xaiengine.inference.preprocessing import Preprocessed
    from xaiengine.io.grid import Grid

    grid = Grid(values.shape[1:], np.eye(4))
    model = load_model(described)
    assert predict_scan(model, Preprocessed(torch.zeros(values.shape), grid, grid)).shape[1] == 2
    with pytest.raises(ModelError, match=r"takes 2 channels \(T1, T2\), the scan gives 1"):
        predict_scan(model, Preprocessed(torch.zeros(1, 30, 28, 26), grid, grid))


def flags(weights):
    return [
        str(weights),
        "--network=UNet",
        *(f"--argument={name}={value}" for name, value in UNET.items()),
        "--task=segmentation",
        "--labels=background,organ",
        "--target=organ",
        "--spacing=1.5,1.5,2",
        "--range=-100,300",
        "--window=32,32,32",
        "--overlap=0.5",
    ]


def test_describe_model_writes_what_load_model_reads(weights, capsys):
    assert describe_model_command(flags(weights)) == 0
    assert "Written to" in capsys.readouterr().out
    model = load_model(weights)
    assert model.labels == ("background", "organ") and model.target == "organ"
    assert (model.inferer.kind, model.inferer.roi_size, model.inferer.overlap) == ("sliding_window", (32, 32, 32), 0.5)
    assert [type(step).__name__ for step in model.preprocessing()] == ["Spacing", "ScaleIntensityRange"]


def test_describe_model_leaves_nothing_when_the_weights_do_not_fit(weights):
    wrong = [flag.replace("out_channels=2", "out_channels=3") for flag in flags(weights)]
    with pytest.raises(ModelError, match="do not fit"):
        describe_model_command(wrong)
    assert not weights.with_suffix(".json").exists()


def test_describe_model_asks_for_the_network_by_its_flag(weights):
    with pytest.raises(OptionError, match="not named"):
        describe_model_command([str(weights.rename(weights.with_suffix(".safetensors")))])


@pytest.mark.parametrize(
    "flag", ["--spacing=a,b", "--range=5", "--range=5,1", "--argument=channels", "--inference=sliding_window"]
)
def test_describe_model_refuses_flags_that_make_no_sense(weights, flag):
    kept = [item for item in flags(weights) if not item.startswith((flag.split("=")[0], "--window"))]
    with pytest.raises(OptionError):
        describe_model_command([*kept, flag])


def test_questions_are_asked_on_a_terminal(weights):
    from xaiengine.app.describe_model import described as describe
    from xaiengine.app.describe_model import parser

    answers = {
        "Which MONAI network": "UNet",
        "Its arguments": "; ".join(f"{name}={value}" for name, value in UNET.items()),
        "What does it do": "segmentation",
        "Names of its outputs": "background, organ",
        "Spacing": "",
        "How are intensities": "range",
        "Lowest and highest": "-100, 300",
    }

    def ask(question):
        return next(answer for start, answer in answers.items() if question.startswith(start))

    content = describe(parser().parse_args([str(weights)]), ask)
    assert content["network"] == {"_target_": "UNet", **UNET}
    assert content["labels"] == ["background", "organ"]
    assert content["preprocessing"][0]["a_min"] == -100


def test_a_description_may_name_the_users_code(tmp_path):
    layers = "nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)"
    code = "from torch import nn\n\nclass Net(nn.Sequential):\n"
    code += f"    def __init__(self):\n        super().__init__({layers})\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    assert (
        describe_model_command([str(tmp_path / "net.pth"), "--code", str(tmp_path / "own.py"), "--trust-model"]) == 0
    )
    with pytest.raises(ModelError, match="own.py"):
        load_model(tmp_path / "net.pth")
    batch = torch.randn(1, 1, 16, 16)
    assert torch.equal(load_model(tmp_path / "net.pth", trust=True).predict(batch), network(batch))


def test_the_cache_is_shown_used_and_cleared(described, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "kept"))
    first = load_model(described)
    assert cache_command(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["folder"] == str(tmp_path / "kept") and shown["files"] == 2
    monkeypatch.setattr("xaiengine.models.assembly.survey", lambda *_: pytest.fail("surveyed again"))
    assert load_model(described).layers == first.layers
    assert cache_command(["clear"]) == 0
    assert not (tmp_path / "kept").exists()


def test_a_damaged_cache_is_ignored(described, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "kept"))
    before = load_model(described).layers
    for file in (tmp_path / "kept").rglob("*.json"):
        file.write_text("[not json", encoding="utf-8")
    assert load_model(described).layers == before


def described_network(tmp_path, network, *flags, **options):
    """What ``describe-model`` writes for the weights of a network, and the model read with it."""
    path = tmp_path / options.get("file", "net.pth")
    torch.save(network.state_dict(), path)
    assert describe_model_command([str(path), *flags]) == 0
    return path, load_model(path)


CHAIN = [
    {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 4, "kernel_size": 3, "padding": 1},
    {"_target_": "torch.nn.ReLU", "inplace": True},
    {"_target_": "torch.nn.AdaptiveAvgPool2d", "output_size": 4},
    {"_target_": "torch.nn.Flatten"},
    {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 2},
]


def chain():
    torch.manual_seed(0)
    parts = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4)]
    return torch.nn.Sequential(*parts, torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()


@pytest.mark.parametrize("file", ["net.pth", "net.state", "net.checkpoint"])
def test_a_plain_chain_is_described_by_its_parts_and_read_by_its_content(file, tmp_path, capsys):
    network = chain()
    flags = ("--network", "torch.nn.Sequential", "--argument", f"args={json.dumps(CHAIN)}", "--input-size", "24,24")
    _, model = described_network(tmp_path, network, *flags, "--task", "classification", file=file)
    batch = torch.randn(2, 1, 24, 24)
    assert torch.allclose(model.predict(batch), network(batch), atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--range=-100,100",), lambda v: ((v + 100) / 200).clip(0, 1)),
        (("--range=-100,100", "--normalize", "clip"), lambda v: v.clip(-100, 100)),
        (("--range=-100,100", "--scale-to=-1,1"), lambda v: (v / 100).clip(-1, 1)),
        (("--range=-100,100", "--no-clip"), lambda v: (v + 100) / 200),
        (("--range=5,95", "--normalize", "percentiles"), lambda v: scaled_percentiles(v, 5, 95)),
        (("--normalize", "zscore-nonzero"), lambda v: zscore_inside(v)),
        (("--normalize", "zscore"), lambda v: (v - v.mean()) / v.std()),
    ],
)
def test_intensities_are_prepared_as_described(flags, expected, tmp_path, capsys):
    base = ("--network", "torch.nn.Sequential", "--argument", f"args={json.dumps(CHAIN)}", "--input-size", "24,24")
    _, model = described_network(tmp_path, chain(), *base, *flags, "--axis-order", "columns_first")
    values = np.random.default_rng(0).normal(0, 100, (24, 24, 1)).astype(np.float32)
    values[:6] = 0
    found = preprocess(Volume(values, Grid(values.shape, np.eye(4))), model.preprocessing()).tensor[0].numpy()
    assert np.allclose(found, expected(values), atol=2e-3)


def scaled_percentiles(values, low, high):
    least, most = np.percentile(values, [low, high])
    return ((values - least) / (most - least)).clip(0, 1)


def zscore_inside(values):
    inside = values != 0
    return np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0)


def test_the_size_of_slices_keeps_the_axis_across_them(tmp_path, capsys):
    base = ("--network", "torch.nn.Sequential", "--argument", f"args={json.dumps(CHAIN)}")
    _, model = described_network(tmp_path, chain(), *base, "--size", "40,32", "--inference", "slices")
    values = np.zeros((20, 30, 5), np.float32)
    prepared = preprocess(Volume(values, Grid(values.shape, np.eye(4))), model.preprocessing())
    assert prepared.tensor.shape == (1, 40, 32, 5)


def test_a_description_whose_size_does_not_fit_is_refused_and_not_kept(tmp_path, capsys):
    fixed = [*CHAIN[:2], CHAIN[3], {**CHAIN[4], "in_features": 4 * 24 * 24}]
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 24 * 24, 2)
    )
    path = tmp_path / "net.pth"
    torch.save(network.state_dict(), path)
    flags = ["--network", "torch.nn.Sequential", "--argument", f"args={json.dumps(fixed)}", "--task", "classification"]
    with pytest.raises(ModelError, match="does not"):
        describe_model_command([str(path), *flags, "--labels", "a,b", "--input-size", "24,24", "--size", "30,30"])
    assert not path.with_suffix(".json").exists()
    assert describe_model_command([str(path), *flags, "--labels", "a,b", "--input-size", "24,24"]) == 0
    with pytest.raises(ModelError, match="does not take an image of 30 x 30.*it takes 24 x 24"):
        load_model(path).predict(torch.zeros(1, 1, 30, 30))


def test_a_description_is_tried_on_an_image_and_its_picture_is_shown(tmp_path, capsys):
    from PIL import Image

    pixels = np.zeros((24, 24), np.uint8)
    pixels[:8] = 200
    Image.fromarray(pixels).save(tmp_path / "top.png")
    base = ("--network", "torch.nn.Sequential", "--argument", f"args={json.dumps(CHAIN)}", "--normalize", "zero-one")
    seen = ("--image", str(tmp_path / "top.png"), "--picture", str(tmp_path / "seen.png"))
    described_network(tmp_path, chain(), *base, "--task", "classification", "--labels", "a,b", *seen)
    printed = capsys.readouterr().out
    assert "prediction" in printed and "a: 0." in printed and "seen.png" in printed
    picture = np.asarray(Image.open(tmp_path / "seen.png"))
    assert picture.ndim >= 2 and len(np.unique(picture)) > 1
