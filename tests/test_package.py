"""Laws of the package as its users install it."""

from __future__ import annotations

import configparser
import email
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import inloop
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = {"inloop/integrations": ROOT / "integrations", "inloop": ROOT / "core"}
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", ".tox", ".*_cache", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, built from a copy of the repository."""
    tmp = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, tmp / "inloop", ignore=NOT_SOURCE)
    run("-m", "build", "--no-isolation", "--outdir", tmp, tmp / "inloop")
    return next(tmp.glob("*.whl"))


@pytest.fixture(scope="session")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def run(*args, **kwargs):
    """Run Python with ``args``; a failure shows what it printed."""
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in (*folder.rglob("*.py"), *folder.glob("py.typed"))
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert held == expected
    assert "inloop/py.typed" in held


@pytest.mark.slow
def test_the_metadata_say_what_is_needed(metadata):
    requirements = [Requirement(r) for r in metadata.get_all("Requires-Dist")]
    assert {r.name for r in requirements if r.marker is None} == {"numpy", "scipy"}
    assert all(not r.specifier or str(r.specifier).startswith(">=") for r in requirements), "ranges, no pins"
    assert metadata["Version"] == inloop.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"


@pytest.mark.slow
def test_the_commands_are_there(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = next(archive.read(n) for n in archive.namelist() if n.endswith("entry_points.txt"))
    scripts = configparser.ConfigParser()
    scripts.read_string(text.decode())
    for target in scripts["console_scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.slow
def test_every_integration_has_an_extra_of_its_name(metadata):
    names = {p.stem.partition("_")[0] for p in FOLDERS["inloop/integrations"].glob("[!_]*.py")}
    assert names <= set(metadata.get_all("Provides-Extra"))


@pytest.mark.slow
def test_the_constraints_pin_whatever_the_tests_ask_for(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*]+", str(p.specifier)) for p in pins)
    asked = {r.name for r in map(Requirement, metadata.get_all("Requires-Dist"))} - {"inloop"}
    assert not asked - {p.name for p in pins}


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the types of numpy and scipy for it are older ones")
def test_the_installed_package_is_typed(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    run("-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml", "-p", "inloop", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("check", "--no-cache"), ("format", "--check", "--no-cache")])
def test_the_style_is_kept(command):
    run("-m", "ruff", *command, ".", cwd=ROOT)


def test_importing_inloop_imports_numpy_and_little_else():
    code = "import sys; before = set(sys.modules); import inloop; print(*set(sys.modules) - before)"
    new = set(run("-c", code).split())
    top = {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)
    compiled = {name for name in top if "cython" in name}  # of numpy's older releases
    assert top - compiled - {"__mp_main__"} <= {"inloop", "numpy", "scipy"}
    assert not new & {"scipy.stats", "scipy.optimize", "scipy.linalg", "scipy.spatial", "scipy.interpolate"}


def test_ci_runs_the_command_that_the_readme_gives():
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"^python3 -m venv .*-m pytest$", readme, re.MULTILINE)
    assert command is not None
    assert command[0].split() == (ROOT / ".ci" / "run").read_text().splitlines()[-1].split()
