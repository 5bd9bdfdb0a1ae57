"""What is drawn, completed and measured by several processes: the same bits as by one, each item in one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_cli.components import Components, build
from diffusion_cli.dataset.cache import CACHE
from diffusion_cli.device import Alone
from diffusion_cli.figures.recipes.completions import complete
from diffusion_cli.metrics.progress import Multiplied

SMALL = [
    "device=cpu",
    "evaluation.n=40",
    "evaluation.floor_draws=3",
    "sampler=ddim",
    "sampler.steps=4",
    "shards=3",
]


class Member(Alone):
    """One of several processes that share this one: what process 0 orders is pickled and done by all of them in turn."""

    def __init__(self, rank: int, size: int, components: Components) -> None:
        self.rank, self.size, self.components = rank, size, components
        self.done: list[int] = []

    def own(self, parts: int) -> range:
        return range(self.rank * parts // self.size, (self.rank + 1) * parts // self.size)

    def call(self, order: Callable[[Any], Any], own: Callable[[], Any]) -> list[Any]:
        sent, results = pickle.dumps(order), [own()]
        for rank in range(1, self.size):
            member = replace(self.components, group=Member(rank, self.size, self.components))
            results.append(pickle.loads(pickle.dumps(pickle.loads(sent)(member))))
        self.done += map(len, results[1:])
        return results


@pytest.fixture(scope="module")
def components(composed, tmp_path_factory):
    """components(line): with a network that is not trained where no density is known."""
    file = tmp_path_factory.mktemp("images") / "images.npz"
    g = np.random.default_rng(0)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    shapes = ((150, 4, 4), (150, 1), (60, 4, 4), (60, 1))
    np.savez(file, **{name: g.integers(0, 255 if "images" in name else 3, shape, dtype=np.uint8)
                      for name, shape in zip(names, shapes, strict=True)})  # fmt: skip

    def made(*line: str) -> Components:
        words = [f"dataset.path={file}" if word == "FILE" else word for word in line]
        built = build(composed("train", *words, *SMALL))
        if built.dataset.density is not None:
            return built
        net = built.new_net()
        # the last layer of a new network is 0
        for k, weight in enumerate(net.parameters()):
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(k))
        return replace(built, net=net)

    return made


@pytest.mark.parametrize(
    "line",
    [
        ("dataset=circle", "evaluation.draws=2"),
        ("dataset=gmm2px", "guidance=cfg", "evaluation.draws=2"),
        ("dataset=stars", "dataset.n=60", "dataset.test=20", "evaluation.n=9", "evaluation.draws=1", "model.width=8",
         "evaluation.floor_draws=2", "evaluation.points=32", "evaluation.emd_points=16"),
        ("dataset=image_arrays", "FILE", "model.width=8"),
    ],
    ids=lambda line: line[0],
)  # fmt: skip
def test_an_evaluation_has_the_bits_of_one_process(components, line, tmp_path, monkeypatch):
    made = components(*line)
    found = []
    for size in (1, 3):
        # floors are measured anew; a judge is not trained again
        monkeypatch.setenv(CACHE, str(tmp_path / ("judge" if "FILE" in line else str(size))))
        group = Member(0, size, made)
        found.append(replace(components(*line), group=group).evaluate())
        # drawn, measured and compared
        assert len([number for number in group.done if number]) >= 2 * (size - 1)
    assert found[0] == found[1]


def test_completions_are_those_of_one_process(components):
    made = components("dataset=image_arrays", "FILE", "model.width=8")
    painting = {
        "inpaint": "left_half",
        "completions": 3,
        "image": None,
        "label": None,
        "repaint": {"passes": 1},
    }
    config = made.config | painting
    found = [complete(replace(made, config=config, group=Member(0, size, made)), 5) for size in (1, 3)]
    for other in found[1:]:
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found[0], other, strict=True))
    assert not np.array_equal(found[0].x0, found[0].original)


def test_a_bar_counts_what_others_do_too():
    class Bar:
        def __init__(self) -> None:
            self.counted: list[float] = []

        def update(self, n: float = 1) -> None:
            self.counted.append(n)

    bar = Bar()
    for _ in range(3):
        (both := Multiplied(bar, 2.5)).update()
        both.update()
    assert bar.counted == 3 * [2, 3]
