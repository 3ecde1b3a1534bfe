"""No code of an untrusted model runs: every model of the hostile corpus is refused, with its reason, at small cost."""

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
from xaiengine.models import load_model
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
