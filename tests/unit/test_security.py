"""What the source may not do: load what can run code, run text, unpack without checks, or show a text unescaped.

The rules look at the syntax tree, so that words in strings and comments are none, and names are followed through
imports. Each rule is shown to fail on a line that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("benchmarks", "cringe", "evaluators", "scripts")
FILES = sorted(path for name in (*PACKAGES, "tests") for path in (ROOT / name).rglob("*.py"))

EXCEPTIONS = {
    # Write a file of the kind that must not be read.
    ("tests/unit/cringe/test_classifier_kinds.py", "torch.save"),
    # Shows that its pickle would run code, were it read.
    ("tests/unit/cringe/test_remote_code.py", "torch.load"),
    # Runs what a model card of ours tells people to run.
    ("tests/unit/benchmarks/test_export.py", "exec"),
}
"""File and rule: where the sentence above it says why."""

MODULES = dict.fromkeys(
    ("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"),
    "unpickles, and so runs code; use safetensors, JSON or Parquet",
)
CALLS = {
    "torch.load": "unpickles",
    "torch.save": "pickles",
    "torch.jit.load": "runs what it loads",
    "torch.hub.load": "runs what it loads",
    "pandas.read_pickle": "unpickles",
    "numpy.fromregex": "reads what nobody writes",
    "yaml.load": "builds objects; use benchmarks.yaml_text",
    "yaml.load_all": "builds objects",
    "yaml.full_load": "builds objects",
    "yaml.full_load_all": "builds objects",
    "yaml.unsafe_load": "builds objects",
    "yaml.unsafe_load_all": "builds objects",
    "yaml.safe_load": "keeps the last of two keys, and fails in many ways; use benchmarks.yaml_text",
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "imports by text",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "tempfile.mktemp": "names a file that another may make first",
    "markupsafe.Markup": "shows text unescaped",
    "jinja2.Markup": "shows text unescaped",
    "jinja2.Template": "does not escape",
    "shutil.unpack_archive": "unpacks unchecked; use benchmarks.tasks._unpack",
    "xml.etree.ElementTree.parse": "expands entities",
}
"""What must not be called, by its full name, and why."""
IN_TESTS = frozenset({"yaml.safe_load"})
"""May be called in tests, on text of their own."""
NEVER = {
    "allow_pickle": "unpickles",
    "trust_remote_code": "runs code of a hub",
    "shell": "runs a shell",
}
"""Keywords that are False wherever they are given."""
METHODS = {"extractall": "unpacks unchecked", "extract": "unpacks unchecked"}
"""Names of methods, whatever the object."""


def findings(source: str, *, package: bool) -> Iterator[tuple[int, str, str]]:
    """Line, rule and reason of everything that a module does and may not.

    Args:
        source: its text.
        package: is it a part of what is installed, and no test?
    """
    tree = ast.parse(source)
    names = dict(_imports(tree))
    mappings = _mappings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in _modules(node):
                if module.split(".")[0] in MODULES:
                    yield node.lineno, module.split(".")[0], MODULES[module.split(".")[0]]
        elif isinstance(node, ast.Call):
            yield from _of_call(node, names, mappings, package=package)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            # Also where it is not called but handed on.
            name = _full(node, names)
            if name in CALLS and "." in name and (package or name not in IN_TESTS):
                yield node.lineno, name, CALLS[name]
        elif isinstance(node, ast.Assert) and package:
            yield node.lineno, "assert", "is left out by python -O; raise what a caller can catch"


def _of_call(
    node: ast.Call, names: dict[str, str], mappings: dict[str, set[str]], *, package: bool
) -> Iterator[tuple[int, str, str]]:
    name = _full(node.func, names)
    words = {word.arg: word.value for word in node.keywords if word.arg}
    if name in CALLS and "." not in name:
        yield node.lineno, name, CALLS[name]
    last = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if last in METHODS:
        yield node.lineno, last, METHODS[last]
    for word, reason in NEVER.items():
        if word in words and not _is(words[word], False):
            yield node.lineno, word, reason
    if name.endswith("Environment") and name.startswith("jinja2") and not _is(words.get("autoescape"), True):
        yield node.lineno, "autoescape", "shows text unescaped"
    if package and last == "from_pretrained" and isinstance(node.func, ast.Attribute):
        loader = _full(node.func.value, names).rsplit(".", 1)[-1]
        said = _said(node, mappings)
        if not loader.endswith(("Config", "Tokenizer", "TokenizerFast")) and "use_safetensors=True" not in said:
            yield node.lineno, "use_safetensors", "may unpickle weights"
        if loader.lower().startswith("auto") and "trust_remote_code=False" not in said:
            yield node.lineno, "trust_remote_code", "asks whether to run code of a hub"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _said(node: ast.Call, mappings: dict[str, set[str]]) -> set[str]:
    """Keywords of a call with their values, also those of mappings that are unpacked into it."""
    said = {f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords if word.arg}
    unpacked = [word.value for word in node.keywords if word.arg is None]
    return said.union(*(mappings.get(one.id, set()) for one in unpacked if isinstance(one, ast.Name)))


def _mappings(tree: ast.AST) -> dict[str, set[str]]:
    """What stands in the first mapping written out for each name."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value := getattr(node, "value", None), ast.Dict):
                pairs = zip(value.keys, value.values, strict=True)
                said = {f"{key.value}={ast.unparse(item)}" for key, item in pairs if isinstance(key, ast.Constant)}
                found.setdefault(target.id, said)
    return found


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local names, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def _full(node: ast.expr, names: dict[str, str]) -> str:
    """The name of what is called, imports followed; empty for what has none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        above = _full(node.value, names)
        return f"{above}.{node.attr}" if above else ""
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_does_what_is_forbidden(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = findings(path.read_text(encoding="utf-8"), package=not name.startswith("tests/"))
    said = [f"{name}:{line}: {rule}: {reason}" for line, rule, reason in found if (name, rule) not in EXCEPTIONS]
    assert not said, "\n".join(said)


def test_there_is_something_to_look_at() -> None:
    """Where only the installed packages lie, the rules would pass on nothing."""
    names = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert names == {*PACKAGES, "tests"}


def test_exceptions_are_still_needed() -> None:
    for name, rule in EXCEPTIONS:
        found = {rule for _, rule, _ in findings((ROOT / name).read_text(encoding="utf-8"), package=False)}
        assert rule in found, name


BROKEN = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "import os, marshal as m": "marshal",
    "import joblib.externals": "joblib",
    "import torch\ntorch.load('x')": "torch.load",
    "from torch import load as read\nread('x', weights_only=True)": "torch.load",
    "import torch as t\nt.save({}, 'x')": "torch.save",
    "import torch\nread = torch.load": "torch.load",
    "import numpy as np\nnp.load('x', allow_pickle=True)": "allow_pickle",
    "import numpy as np\nnp.load('x', allow_pickle=flag)": "allow_pickle",
    "import pandas as pd\npd.read_pickle('x')": "pandas.read_pickle",
    "import yaml\nyaml.load('x', Loader=yaml.SafeLoader)": "yaml.load",
    "from yaml import unsafe_load\nunsafe_load('x')": "yaml.unsafe_load",
    "import yaml\nyaml.safe_load('x')": "yaml.safe_load",
    "eval('1')": "eval",
    "def f():\n    exec('1')": "exec",
    "compile('1', 'x', 'eval')": "compile",
    "__import__('os')": "__import__",
    "import os\nos.system('id')": "os.system",
    "import subprocess\nsubprocess.run('id', shell=True)": "shell",
    "import subprocess as s\ns.Popen('id', shell=1)": "shell",
    "import tempfile\ntempfile.mktemp()": "tempfile.mktemp",
    "AutoModel.from_pretrained('x', use_safetensors=True, trust_remote_code=True)": "trust_remote_code",
    "AutoConfig.from_pretrained('x', trust_remote_code=asked)": "trust_remote_code",
    "from transformers import AutoModel\nAutoModel.from_pretrained('x')": "use_safetensors",
    "auto.from_pretrained('x', use_safetensors=None)": "use_safetensors",
    "more = {'dtype': 1}\nBert.from_pretrained('x', **more)": "use_safetensors",
    "AutoModel.from_pretrained('x', use_safetensors=True)": "trust_remote_code",
    "AutoTokenizer.from_pretrained('x')": "trust_remote_code",
    "import tarfile\ntarfile.open('x').extractall('y', filter='data')": "extractall",
    "archive.extract('x')": "extract",
    "import shutil\nshutil.unpack_archive('x')": "shutil.unpack_archive",
    "from jinja2 import Environment\nEnvironment(loader=x)": "autoescape",
    "import jinja2\njinja2.Environment(autoescape=False)": "autoescape",
    "import jinja2\njinja2.sandbox.SandboxedEnvironment()": "autoescape",
    "from markupsafe import Markup\nMarkup(x)": "markupsafe.Markup",
    "assert x": "assert",
}
ALLOWED = (
    "import re\nre.compile('x')",
    "model.eval()",
    "text = 'import pickle; eval(x)'  # torch.load",
    "import torch\ntorch.load_nothing = 1",
    "AutoTokenizer.from_pretrained('x', trust_remote_code=False)",
    "AutoModel.from_pretrained('x', use_safetensors=True, trust_remote_code=False)",
    "more = {'use_safetensors': True, 'trust_remote_code': False}\nAutoModel.from_pretrained('x', **more)",
    "Bert.from_pretrained('x', use_safetensors=True)",
    "from jinja2 import Environment\nEnvironment(autoescape=True)",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import subprocess\nsubprocess.run(['id'], shell=False)",
    "import yaml\nyaml.safe_dump({})",
)


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_a_rule_can_fail(source: str) -> None:
    assert BROKEN[source] in {rule for _, rule, _ in findings(source, package=True)}


@pytest.mark.parametrize("source", ALLOWED, ids=range(len(ALLOWED)))
def test_a_rule_can_pass(source: str) -> None:
    assert not list(findings(source, package=True))


# What the rules do not see -------------------------------------------------------------------------------------------


SAFE = {"style": "page.css", "script": "page.js", "svg": "inline_svg", "reader.json": "page_reader"}
"""What the template shows as it is: our own files, drawings without anything but shapes, and JSON without a bracket."""


def test_what_the_page_shows_as_it_is() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks/templates").iterdir()}
    shown = {match for text in texts.values() for match in re.findall(r"\{\{\s*([\w.]+)\s*\|\s*safe", text)}
    assert shown == set(SAFE)
    assert not any(re.search(r"autoescape|Markup|\|\s*(tojson|forceescape)", text) for text in texts.values())
    # Text from data is put into the page as text.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", texts["page.js"]
    )
