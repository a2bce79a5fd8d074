"""What is installed: every package and its data, from a wheel built here, with the licence and two programs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED_AS = {"pgpack": "pgpack", "pgtrain": "pgtrain", "cli": "pgpack_cli"}
needs_build = pytest.mark.skipif(find_spec("build") is None, reason="needs the package `build`")


def packages() -> set[str]:
    """The packages of the tree, as they are installed."""
    found = set()
    for top, name in INSTALLED_AS.items():
        for file in (ROOT / top).rglob("__init__.py"):
            found.add(".".join((name, *file.parent.relative_to(ROOT / top).parts)))
    return found


def data_files() -> set[str]:
    """What is no Python in the packages, as it is installed."""
    return {
        f"{INSTALLED_AS[top]}/{path.relative_to(ROOT / top).as_posix()}"
        for top in INSTALLED_AS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }


def test_every_package_of_the_tree_is_installed_and_no_other() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages()


@needs_build
def test_a_wheel_and_an_sdist_install_into_an_empty_environment_and_run(tmp_path: Path) -> None:
    source = tmp_path / "source"  # building leaves folders behind
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a checkout")
    for name in tracked.splitlines():
        if not name.startswith(("tests/", "experiments/", "results/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert list((tmp_path / "dist").glob("*.tar.gz"))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert data_files() <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not {name for name in names if name.split("/")[0] in ("cli", "tests", "experiments")}

    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    place = sysconfig.get_path("purelib", vars={"base": str(home)})
    python = home / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", "--quiet", "--target", place, str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    # the dependencies are those of the environment that runs the tests
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([place, sysconfig.get_path("purelib")])}
    for code in (
        f"import pgpack; assert pgpack.__file__.startswith({str(home)!r}); pgpack.Recipe",
        "import sys; sys.argv = ['pgpack', 'demo', '--help']; from pgpack_cli.pgpack_app import main; main()",
    ):
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "built in" in done.stdout
