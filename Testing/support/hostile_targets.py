"""Bundle configurations whose targets and expressions are made to do harm."""

from __future__ import annotations

from support.hostile_corpus import UNET, entry, hostile, network_argument, touch


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
