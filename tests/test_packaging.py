"""What a user gets from the wheel: every file, and commands that work in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import diffusion_cli

ROOT = Path(__file__).parents[1]

SPIRAL = '''
import math

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import Dataset


class Spiral(Dataset):
    """Points on an Archimedean spiral of so many turns."""

    kind, shape = "plane", (2,)

    def __init__(self, turns: float = 2.0):
        self.turns = turns

    def draw(self, n, generator):
        s = torch.rand(n, generator=generator, device=generator.device).sqrt()
        angle = 2 * math.pi * self.turns * s
        return Batch(torch.stack([s * angle.cos(), s * angle.sin()], dim=1), None)
'''


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release: checkout -> sdist -> wheel, without network."""
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", dist, cwd=ROOT)
    (sdist,) = dist.glob("*.tar.gz")
    pip_wheel = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index")
    run(*pip_wheel, "-w", dist, sdist, cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing but the installed wheel, to be put on PYTHONPATH before the checkout."""
    folder = tmp_path_factory.mktemp("site")
    install = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*install, "--target", folder, wheel, cwd=folder)
    return folder


def test_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = (p for p in (ROOT / "diffusion_cli").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    configs = (p for p in (ROOT / "configs").rglob("*") if p.is_file())
    expected = {p.relative_to(ROOT).as_posix() for p in code}
    expected |= {f"diffusion_cli/{p.relative_to(ROOT).as_posix()}" for p in configs}
    assert held == expected
    assert {"diffusion_cli/configs/train.yaml", "diffusion_cli/configs/dataset/circle.yaml"} <= held
    assert any(re.fullmatch(r"diffusion_cli/dataset/.*dino.*\.csv", name) for name in held)
    assert "diffusion_cli/dataset/assets/mnist_bundled.npz" in held


def test_wheel_names_its_licence_and_its_console_script(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"diffusion_cli-{diffusion_cli.__version__}.dist-info"
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "diffusion = diffusion_cli.__main__:main" in scripts
    assert "License-Expression: MIT" in metadata


def test_installed_wheel_runs_in_an_empty_directory(site: Path, tmp_path: Path) -> None:
    def python(*words: str) -> str:
        return run(sys.executable, *words, cwd=tmp_path, PYTHONPATH=str(site))

    where = python("-c", "import diffusion_cli; print(diffusion_cli.__file__)")
    assert Path(where.strip()).is_relative_to(site), "the checkout was imported, not the wheel"
    assert diffusion_cli.__version__ in python("-m", "diffusion_cli", "--version")
    config = python("-m", "diffusion_cli", "train", "--cfg", "job", "dataset=square")
    assert re.search(r"^steps: \d+$", config, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_dataset_trains_from_the_wheel(site: Path, tmp_path: Path) -> None:
    """The README's worked example: a class of one's own, and a directory of options beside ours."""
    (tmp_path / "my_spiral.py").write_text(SPIRAL)
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "spiral.yaml").write_text("_target_: my_spiral.Spiral\nturns: 3.0\n")
    diffusion = (sys.executable, "-m", "diffusion_cli")
    environment = {"PYTHONPATH": str(site), "DIFFUSION_CLI_TRUST": "my_spiral"}
    words = ("--config-dir", "mine", "dataset=spiral", "steps=20", "plots=false", "hydra.run.dir=trained")
    run(*diffusion, "train", *words, cwd=tmp_path, **environment)
    (checkpoint,) = (tmp_path / "trained" / "checkpoints").iterdir()
    assert checkpoint.name == "step_00000020.safetensors"

    run(*diffusion, "sample", "run=trained", "n=7", "hydra.run.dir=drawn", cwd=tmp_path, **environment)
    with np.load(tmp_path / "drawn" / "samples.npz") as samples:
        assert samples["x0"].shape == (7, 2)
        assert np.isfinite(samples["x0"]).all()
