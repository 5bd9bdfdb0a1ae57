"""What the README promises: its examples run as they stand there, and its tables name what exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_cli.options.files import CONFIGS, names_of

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
QUICK = ["steps=20", "plots=false", "stages.every=0", "threads=1"]


def block(name):
    """The code block that follows the first mention of `name`."""
    return re.search(rf"`{re.escape(name)}`.*?```\w+\n(.*?)```", TEXT, re.S)[1]


def run(folder, *line, **environment):
    done = subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "group", "option", "target"),
    [
        ("my_spiral", "dataset", "spiral", None),
        ("my_net", "model", "tiny", "my_net.Tiny"),
        ("my_sampler", "sampler", "euler", "my_sampler.Euler"),
    ],
)
def test_a_component_of_your_own(tmp_path, module, group, option, target):
    code = block(f"{module}.py")
    assert len(code.strip().splitlines()) < 15 and len(code.splitlines()) > 5
    (tmp_path / f"{module}.py").write_text(code)
    yaml = tmp_path / "mine" / group / f"{option}.yaml"
    yaml.parent.mkdir(parents=True)
    if target:
        assert f"`mine/{group}/{option}.yaml` holding" in TEXT and f"`_target_: {target}`" in TEXT
    yaml.write_text(f"_target_: {target}\n" if target else block(f"mine/{group}/{option}.yaml"))
    line = ["-m", "diffusion_cli", "train", "--config-dir", "mine", f"{group}={option}", "hydra.run.dir=run"]
    more = ["plots=true", "n=100", "evaluation.n=100"] if group == "sampler" else []
    run(tmp_path, *line, *QUICK, *more, DIFFUSION_CLI_TRUST=module)
    assert (tmp_path / "run" / "summary.json").is_file()
    assert (tmp_path / "run" / "samples.npz").is_file() == (group == "sampler")


def test_as_a_library(tmp_path):
    """The same samples as by the command, to the last bit."""
    code = block("library.py").replace("steps=1000", "steps=300")
    (tmp_path / "library.py").write_text(f"{code}\nimport numpy\nnumpy.save('x0.npy', last.x.numpy())\n")
    assert float(re.search(r"[\d.]+", run(tmp_path, "library.py"))[0]) < 0.5
    line = ["-m", "diffusion_cli", "train", "dataset=circle", "steps=300", "n=1000", "stages.every=0"]
    quick = ["evaluation.n=100", "evaluation.draws=1", "evaluation.floor_draws=2", "device=cpu"]
    figures = [
        f"figures.{name}=null" for name in ("samples", "forward_strip", "reverse_strip", "trajectories")
    ]
    run(tmp_path, *line, *quick, *figures, "hydra.run.dir=run")
    ours, theirs = np.load(tmp_path / "x0.npy"), np.load(tmp_path / "run" / "samples.npz")["x0"]
    assert np.array_equal(ours, theirs)


def test_the_table_of_groups_is_complete():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT, re.M))
    for group in CONFIGS.iterdir():
        if group.is_dir() and group.name != "hydra":
            options = {*names_of(group.name)}
            assert options == set(re.findall(r"\w+", rows[group.name])), group.name


def test_its_pictures_exist():
    pictures = re.findall(r"outputs/report/[\w.]+", TEXT)
    assert len(pictures) > 10
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 1000


def test_the_console_script_finds_a_module_of_your_own(tmp_path):
    """Without the working directory on its path, which `-P` leaves out as a console script does."""
    (tmp_path / "my_spiral.py").write_text(block("my_spiral.py"))
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "spiral.yaml").write_text(block("mine/dataset/spiral.yaml"))
    script = "import sys; from diffusion_cli.__main__ import main; sys.exit(main())"
    line = ["-P", "-c", script, "train", "--config-dir", "mine", "dataset=spiral", "hydra.run.dir=run"]
    run(tmp_path, *line, *QUICK, DIFFUSION_CLI_TRUST="my_spiral")
    assert (tmp_path / "run" / "summary.json").is_file()
