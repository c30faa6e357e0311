"""Laws of the documentation: what it shows runs as written, and it covers what is public."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path

import inloop
import inloop.integrations
import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
OPTIONS = {"quickstart.py": [["--trials", "3"], ["--trials", "3", "--xgboost"]]}
EXAMPLES = [
    [path.name, *options]
    for path in sorted((ROOT / "examples").glob("*.py"))
    for options in OPTIONS.get(path.name, [[]])
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# walked by import, not by file: under an editable install a file imported by its path would be a second module, and
# the integrations lie in a folder of their own
PACKAGES = {"inloop.": inloop.__path__, "inloop.integrations.": inloop.integrations.__path__}
MODULES = sorted(
    {"inloop", *(m.name for prefix, path in PACKAGES.items() for m in pkgutil.walk_packages(path, prefix))}
)


def blocks(page):
    """Return the Python blocks of a page, each moved to its line in the file."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in BLOCK.finditer(text)]


def module(name):
    """Import a module; one whose framework is not installed is skipped."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if not name.startswith("inloop.integrations.") or (error.name or "").startswith("inloop"):
            raise
        pytest.skip(str(error))


def skip_without_callbacks(text):
    """Skip what uses scikit-learn's callbacks where they are not there, on Python 3.10."""
    if "sklearn_callback" in text:
        pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(module(name))
    assert not failed


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_blocks_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", script)
    skip_without_callbacks("".join(blocks(page)))
    for block in blocks(page):
        exec(compile(block, str(ROOT / page), "exec", dont_inherit=True), vars(script))


@pytest.mark.slow
@pytest.mark.parametrize("command", EXAMPLES, ids=" ".join)
def test_the_examples_run(command, tmp_path):
    name, *options = command
    skip_without_callbacks(name)
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_first_block_of_the_readme_is_short():
    lines = [line for line in blocks("README.md")[0].splitlines() if line.strip()]
    assert len(lines) <= 15


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built documentation; every warning of the builder is an error."""
    out = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", out / "trees", ROOT / "docs", out]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_reference_covers_what_is_public(site):
    html = "".join(p.read_text(encoding="utf-8") for p in (site / "api").rglob("*.html"))
    there = {name.rpartition(".")[2] for name in re.findall(r'id="(?:module-)?(inloop[\w.]*)"', html)}
    public = {*inloop.__all__, *inloop.samplers.__all__, *inloop.pruners.__all__, *inloop.storage.__all__}
    modules = {name.rpartition(".")[2] for name in MODULES if name.startswith("inloop.integrations.")}
    assert sorted(public - there) == []
    assert sorted(name for name in modules - there if name[0] != "_") == []
