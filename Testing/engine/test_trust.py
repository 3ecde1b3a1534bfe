"""No code of an untrusted model runs: every model of the hostile corpus is refused, with its reason, at small cost."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xaiengine
from support.hostile_corpus import UNET, Payload, entry
from support.hostile_models import CORPUS
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.models import first_reading, load_model
from xaiengine.models.trust.expressions import evaluate
from xaiengine.models.trust.safe_config import SafeConfig

MOST_SECONDS = 5
MOST_BYTES = 2**30


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """How each hostile model was refused, in a process of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    source = Path(xaiengine.__file__).parents[1]
    paths = os.pathsep.join([str(source), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.hostile_models", str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=len(CORPUS) * MOST_SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_model_is_refused_and_runs_nothing(refusals, name):
    found = refusals[name]
    if "skipped" in found:
        pytest.skip(f"cannot be built here: {found['skipped']}")
    assert not found["canary"], "its code ran"
    assert found["error"] in (TrustError.__name__, ModelError.__name__), found["message"]
    assert re.search(CORPUS[name][1], found["message"]), found["message"]
    assert found["remedy"]
    assert not found["events"], "a program was started or a file written"
    assert found["seconds"] < MOST_SECONDS  # CPU seconds
    assert found["bytes"] < MOST_BYTES


def test_the_corpus_is_large_and_its_payloads_would_run(tmp_path):
    """The canary is a real one: a payload that is executed does create it."""
    import pickle

    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(eval, f"open(r'{canary}','w').close()")))
    assert canary.exists()
    assert len(CORPUS) >= 250


def test_usual_imports_of_bundles_do_no_harm(tmp_path):
    folder = entry(tmp_path, imports=["$import glob", "$import os", "$import sys"], evil="$len('x')")
    assert load_model(folder).network is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1 + 2 * 3", 7),
        ("$-(2 ** 5) // 3", -11),
        ("$@a + @list::1", 12),
        ("$@list[-1] % 7", 6),
        ("$[int(x * 2) for x in @list if x > 5]", [20, 40]),
        ("$'a' + @name", "abundle"),
        ("$(1, 2)[::-1]", (2, 1)),
        ("$@list[1:]", [10, 20]),
        ("$max(@list) if @a > 1 and not False else None", 20),
        ("$len(@list) == 3 and 2 in [1, 2]", True),
        ("$round(2.5 / 2, 1)", 1.2),
        ("$sum(range(4))", 6),
        ("${'a': 1}['a']", 1),
        ("$torch.device('cpu')", torch.device("cpu")),
        ("$torch.float32", torch.float32),
        ("$torch.cuda.is_available()", torch.cuda.is_available()),
        ("$None is None", True),
    ],
)
def test_expressions_mean_what_they_mean_in_python(text, value):
    config = SafeConfig({"a": 2, "list": [5, 10, 20], "name": "bundle"})
    assert evaluate(text, config.resolve) == value


@pytest.mark.parametrize(
    "text",
    [
        "$[].append(1)",
        "$'x'.join(['a'])",
        "$@a.real",
        "$print(1)",
        "$type(1)",
        "$f'{1}'",
        "$sorted([1], key=@a)",
        "$[x for x in [1] for y in [2]]",
        "$(yield 1)",
        "$*@list",
        "$'%s' % 1",
        "$torch.device(*@list)",
        "$torch.ones(3)",
        "$b'x'",
        "$1 << 100",
        "$lambda: 1",
        "${**@a}",
        "$np.load('x')",
    ],
)
def test_other_expressions_are_refused(text):
    config = SafeConfig({"a": 2, "list": [5]})
    with pytest.raises(ModelError):
        evaluate(text, config.resolve)


def test_references_mean_what_they_mean_in_monai():
    """Relative ids, old and new separators, macros and merged keys, against MONAI's own parser."""
    from monai.bundle import ConfigParser

    content = {
        "a": {"b": [1, {"c": "@##0"}], "d": "@a#b#0", "e": "@::d"},
        "copy": "%a::b",
        "sum": "$@a::b::0 + @a#e",
        "text": "not @a reference",
        "nested": {"deep": ["@::::::sum", "@sum"]},
    }
    ours = SafeConfig(content)
    theirs = ConfigParser(json.loads(json.dumps(content)))
    theirs.parse()
    for name in ("a::b::1::c", "a::d", "a::e", "copy", "sum", "text", "a::b", "nested"):
        assert ours.resolve(name) == theirs.get_parsed_content(name), name


def test_disabled_components_are_left_out():
    config = SafeConfig({"steps": [{**UNET, "_disabled_": True}, {**UNET, "_disabled_": "false"}]})
    assert len(config.resolve("steps")) == 1


def test_honest_models_of_every_format_pass_the_confined_process(tmp_path, monkeypatch):
    """In force as for users: what protects from hostile models must not refuse honest ones."""
    import shutil

    from support.hostile_details import onnx_model
    from support.hostile_programs import honest_exported, honest_script

    monkeypatch.setenv("XAIENGINE_CONFINE", "always")
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    paths = [entry(tmp_path), tmp_path / "net.pt2", tmp_path / "net.ts"]
    paths[1].write_bytes(honest_exported())
    paths[2].write_bytes(honest_script())
    if importlib.util.find_spec("onnx2torch"):
        from onnx import helper

        paths.append(onnx_model(tmp_path, [helper.make_node("Identity", ["f"], ["y"])]))
    for path in paths:
        model = load_model(path)
        assert not any("without a confined process" in note for note in model.notes), path
    read = list((tmp_path / "cache" / "read").glob("*.json"))
    assert len(read) == 2 * len(paths), "each is remembered by its place and by its content"
    moved = [shutil.copy(path, tmp_path / "cache" / path.name) for path in paths[1:3]]
    monkeypatch.setattr(first_reading, "_verdict", lambda *_: pytest.fail("it was read in a process again"))
    load_model(Path(moved[0]))


def test_a_process_that_is_confined_can_do_nothing_but_read(tmp_path):
    """Each attempt is made as native code would make it where it can: through the C library, past Python's hooks."""
    source = f"""
import ctypes, os, socket, sys
sys.path[:0] = {[str(Path(xaiengine.__file__).parents[1])]!r}
from xaiengine.models.trust.confinement import confine
done = confine(2**30, 20)
libc = ctypes.CDLL(None, use_errno=True)
tried = {{
    "write": libc.open(b"{tmp_path}/written", os.O_WRONLY | os.O_CREAT, 0o600) >= 0,
    "folder": libc.mkdir(b"{tmp_path}/made", 0o700) == 0,
    "remove": libc.unlink(b"{tmp_path}/there") == 0,
    "program": libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"true", None)) != -1,
    "network": libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0) >= 0,
    "signal": libc.kill(os.getppid(), 0) == 0,
    "read": libc.open(b"{tmp_path}/there", os.O_RDONLY) >= 0,
    "memory": libc.malloc(ctypes.c_size_t(2**31)) not in (0, None),
}}
print(done, sorted(name for name, worked in tried.items() if worked))
"""
    (tmp_path / "there").write_text("x", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if "landlock" in done.stdout and "seccomp" in done.stdout:
        assert done.stdout.endswith("['read']\n"), done.stdout
    else:
        pytest.skip(f"this system has not all of it: {done.stdout}")
