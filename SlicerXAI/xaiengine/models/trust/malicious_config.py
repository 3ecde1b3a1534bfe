"""Looks through all configuration of an untrusted bundle for what no honest model needs.

Entries that the engine does not use are never evaluated, so this is a second line of defense: a bundle that tries
to run a program anywhere is refused as a whole, while ``$import glob`` of the usual bundles does no harm.
"""

from __future__ import annotations

import ast
import configparser
import re
from typing import Any

from ...core.errors import TrustError
from .expressions import TRUST_REMEDY, is_expression

_PROGRAMS = frozenset(
    """
    subprocess socket ctypes pickle cPickle dill cloudpickle marshal shelve importlib runpy pty code codeop builtins
    posix nt shutil multiprocessing asyncio urllib requests http ftplib smtplib telnetlib webbrowser pdb timeit
    """.split()
)
_OS_CALLS = frozenset(
    """
    system popen fork forkpty kill killpg remove unlink rmdir removedirs rename renames replace chmod chown putenv
    startfile symlink link truncate abort
    """.split()
)
_BUILT_IN = frozenset("eval exec compile input breakpoint globals locals delattr".split())
_READING = ("r", "rb", "rt")
_OS_PREFIXES = ("exec", "spawn", "posix_spawn")
_LOGGING_CLASSES = re.compile(r"(logging\.)?(handlers\.)?(Stream|File|Null|RotatingFile|TimedRotatingFile)Handler$")
_LOGGING_ARGUMENTS = re.compile(r"\(\s*((sys\.std(out|err)|[rfb]?'[^'\\]*'|[rfb]?\"[^\"\\]*\"|\d+)\s*,?\s*)*\)$")


def check_configuration(content: Any, file: str) -> None:
    """Refuse a configuration that holds an attack anywhere.

    Raises:
        TrustError: naming the entry and what it would do.
    """
    pending = [(content, "")]
    while pending:
        value, where = pending.pop()
        if isinstance(value, dict):
            if "_target_" in value:
                _check_target(value["_target_"], where, file)
            pending.extend((item, f"{where}::{key}" if where else str(key)) for key, item in value.items())
        elif isinstance(value, list):
            pending.extend((item, f"{where}::{number}") for number, item in enumerate(value))
        elif is_expression(value):
            _check_expression(value, where, file)


def _check_target(target: Any, where: str, file: str) -> None:
    if not isinstance(target, str):
        return
    parts = target.split(".")
    found = [part for part in parts if part in _PROGRAMS or part == "os" or part.startswith("__")]
    if not found and len(parts) == 1 and target in _BUILT_IN:
        found = [target]
    if found:
        raise _refusal(target, where, file)


def _check_expression(text: str, where: str, file: str) -> None:
    source = text[1:].strip().replace("@", "reference_").replace("::", "_").replace("#", "_")
    try:
        tree = ast.parse(source[:20_000])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # never evaluated unless it is needed, and then refused as unreadable
    for node in ast.walk(tree):
        if _is_hostile(node):
            raise _refusal(text, where, file)


def _is_hostile(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in _PROGRAMS for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        package = (node.module or "").split(".")[0]
        names = {alias.name for alias in node.names}
        return package in _PROGRAMS or (package == "os" and any(_is_os_call(name) for name in names))
    if isinstance(node, ast.Name):
        return node.id in _PROGRAMS or node.id in _BUILT_IN or node.id.startswith("__")
    if isinstance(node, ast.Attribute):
        owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
        is_os_call = owner == "os" and _is_os_call(node.attr)
        return is_os_call or node.attr in _PROGRAMS or (node.attr.startswith("__") and node.attr.endswith("__"))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open":
        return any(isinstance(item, ast.Constant) and item.value not in _READING for item in _modes(node))
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("system", "popen")


def _modes(call: ast.Call) -> list[ast.expr]:
    """The ``mode`` of a call of ``open``."""
    return [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]


def _is_os_call(name: str) -> bool:
    return name in _OS_CALLS or name == "*" or name.startswith(_OS_PREFIXES)


def _refusal(text: Any, where: str, file: str) -> TrustError:
    shown = str(text) if len(str(text)) <= 120 else str(text)[:117] + "..."
    return TrustError(f"{file} would run {shown!r} (entry {where or 'at the top'}).", TRUST_REMEDY)


def is_cleanup(content: Any) -> bool:
    """Whether all that :func:`check_configuration` refuses in a configuration is moving or deleting single files.

    Honest evaluations and trainings do so; what starts programs or reaches the network never is.
    """
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("_target_"), str) and _is_refused_target(value["_target_"]):
                return False
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif is_expression(value) and _is_refused_expression(value) and not _is_file_call(value):
            return False
    return True


def _is_refused_target(target: str) -> bool:
    try:
        _check_target(target, "", "")
    except TrustError:
        return True
    return False


def _is_refused_expression(text: str) -> bool:
    try:
        _check_expression(text, "", "")
    except TrustError:
        return True
    return False


def _is_file_call(text: str) -> bool:
    """Whether the only calls of an expression that are refused are those on single files."""
    rest = re.sub(r"\bos\.(remove|unlink|rename|replace|chmod)\b", "harmless_call", text)
    return rest != text and not _is_refused_expression(rest)


def check_logging(text: str, file: str) -> None:
    """Refuse a ``logging.conf`` whose ``class=`` or ``args=`` would run more than the usual handlers.

    Python's ``logging.config.fileConfig`` evaluates both. The engine does not read the file at all.
    """
    reader = configparser.RawConfigParser()
    try:
        reader.read_string(text)
    except configparser.Error:
        return
    for section in reader.sections():
        for option, value in reader.items(section):
            is_class = option == "class" and not section.startswith("formatter")
            is_formatter = option == "class" and section.startswith("formatter")
            if (
                (is_class and not _LOGGING_CLASSES.match(value.strip()))
                or (is_formatter and value.strip() != "logging.Formatter")
                or (option == "args" and not _LOGGING_ARGUMENTS.match(value.strip()))
                or (option == "kwargs" and not re.match(r"\{[^()]*\}$", value.strip()))
            ):
                raise _refusal(f"{option}={value}", section, file)
