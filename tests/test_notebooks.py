"""The notebooks run from their first cell to their last, show their pictures, and are stored without outputs."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("nbclient") is None:
    pytest.skip("needs nbclient", allow_module_level=True)
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Smaller budgets, and the circle for the dinosaur: what a cell says -> what it says here.
QUICK = {
    "dinohead": "circle",
    "steps=2000": "steps=60, n=64, threads=1",
    "steps=100": "steps=20",
    "sample(2000": "sample(100",
    "sample(4000": "sample(400",
    "(3, 5, 10, 50)": "(3,)",
    "(3, 5, 10, 20)": "(3, 20)",
    "evaluate(": 'evaluate("evaluation.n=100", "evaluation.draws=1", "evaluation.floor_draws=2", ',
    '"guided_comparison", ': '"guided_comparison", "figure.n=20", ',
    '"guidance_trajectories", ': '"guidance_trajectories", "figure.n=3", "figure.background=100", ',
    "train(": 'train("evaluation.n=100", "evaluation.draws=1", "evaluation.floor_draws=2", *{}, '.format(
        [f"figures.{name}=null" for name in ("forward_strip", "reverse_strip", "trajectories")]
    ),
}


def shown(cell: Any, kind: str) -> list[Any]:
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def printed(cell: Any) -> str:
    return "".join(
        output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"
    )


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in NOTEBOOKS])
def test_a_notebook_runs(file: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(file, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            for text, quicker in QUICK.items():
                cell.source = cell.source.replace(text, quicker)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = 0
    for cell in codes:
        last = (cell.source.strip().splitlines() or [""])[-1]
        if re.match(r"(\w+\.)?plot\(|samples$|exact\.sample", last):
            assert shown(cell, "image/png"), cell.source
            pictures += 1
        if last == "run" or last.startswith("Run.load"):
            (page,) = shown(cell, "text/html")
            assert "finished" in page and "sliced W2" in page
            # once in what was printed or once in what is shown
            assert "sliced W2" not in printed(cell)
    assert pictures >= 4
    if file.stem == "first-steps":
        assert any("sampler=ddmi: no such option; did you mean ddpm?" in printed(cell) for cell in codes)
    else:
        (text,) = [printed(cell) for cell in codes if "w = 0" in printed(cell)]
        means = [[float(x) for x in found.split()] for found in re.findall(r"mean \[(.*?)\]", text)]
        # of the component itself, then further and further from the other one
        assert means[0] == pytest.approx([-0.35, 0.65], abs=0.03)
        assert means[0][0] > means[1][0] > means[2][0] and means[0][1] < means[1][1] < means[2][1]


def test_a_notebook_needs_a_checkout_alone() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["exact-truth-and-guidance", "first-steps"]
    for file in NOTEBOOKS:
        (cell,) = [
            cell for cell in nbformat.read(file, 4).cells if "install" in cell.metadata.get("tags", [])
        ]
        assert "%pip install --quiet {folder}" in cell.source
        assert os.path.abspath(os.path.join(file.parent, "../..")) == str(FOLDER.parents[1])
