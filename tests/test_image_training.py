"""Training on images: precision, dropout and resumption, and the recipes as they stand in the configs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_cli.batches import Batches
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.device import precision_of
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.unet2d import UNet2d
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.options.build import build_component
from diffusion_cli.prediction import V
from diffusion_cli.runs.config import length
from diffusion_cli.sampler import Multistep, chain
from diffusion_cli.schedule import loglinear
from diffusion_cli.trainer import TrainState, fit

Compose = Callable[..., dict[str, Any]]
SCHEDULE = loglinear(20, 0.005, 80.0)
OPTIMIZER = Optimizer(warmup=2)


def dataset() -> ImageDataset:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (32, 1, 8, 8), generator=g, dtype=torch.uint8)
    part = Split(images, torch.arange(32) % 4)
    return ImageDataset(part, part, class_names="abcd", flip=True)


def start(**options) -> TrainState:
    torch.manual_seed(0)
    return TrainState.start(UNet2d((1, 8, 8), 4, width=8, features=16, **options), OPTIMIZER)


def train(state: TrainState, until: int, precision: torch.dtype = torch.float32) -> TrainState:
    batches = Batches(dataset(), SCHEDULE, Objective(times="lognormal"), 8, seed=3, label_dropout=0.1)
    denoiser = NetworkDenoiser(state.net, V(0.5), SCHEDULE, precision)
    for now in fit(state, denoiser, batches, steps=6):
        if now.step == until:
            break
    return state


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_is_the_straight_one_to_the_bit(dropout: float, precision: torch.dtype) -> None:
    straight = train(start(dropout=dropout), 6, precision).state_dict()
    saved = copy.deepcopy(train(start(dropout=dropout), 3, precision).state_dict())
    torch.rand(5)  # what torch's global generator stands at must not matter
    resumed = start(dropout=dropout)
    resumed.load_state_dict(saved)
    resumed = train(resumed, 6, precision).state_dict()
    for part in ("net", "ema", "optimizer"):
        for name, value in straight[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)


def test_dropout_changes_what_is_learned_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.manual_seed(11)
    state = start(dropout=0.3)
    at_start = torch.get_rng_state()
    with_dropout = train(state, 2).state_dict()["net"]
    assert torch.equal(torch.get_rng_state(), at_start)
    torch.set_rng_state(before)
    without = train(start(dropout=0.0), 2).state_dict()["net"]
    assert any(not torch.equal(with_dropout[name], without[name]) for name in without)


def test_bf16_touches_the_network_alone() -> None:
    """Loss, weights and samples stay fp32; samples differ from fp32's by its rounding, not by more."""
    state = train(start(), 6, torch.bfloat16)
    assert {p.dtype for p in state.net.parameters()} == {torch.float32}
    assert state.totals.loss.dtype == torch.float32
    drawn = []
    for precision in (torch.float32, torch.bfloat16):
        denoiser = NetworkDenoiser(state.ema.eval(), V(0.5), SCHEDULE, precision)
        for last in chain(Multistep(steps=8), denoiser, 4, (1, 8, 8), seed=0, label=torch.arange(4)):
            x = last.x
        drawn.append(x)
    assert drawn[1].dtype == torch.float32
    assert 0 < (drawn[1] - drawn[0]).abs().max() < 0.1


def test_precision_auto_knows_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    images, points, cpu = UNet2d((1, 8, 8), width=8), MLP((2,)), torch.device("cpu")
    for avx512, amx in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=avx512: able)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda able=amx: able)
        best = torch.bfloat16 if avx512 or amx else torch.float32
        assert precision_of("auto", cpu, images) == best
        assert precision_of("auto", cpu, points) == torch.float32
        assert precision_of("bf16", cpu, points) == torch.bfloat16
        assert precision_of("fp32", cpu, images) == torch.float32
    assert precision_of("auto", torch.device("mps"), images) == torch.float32


IMAGES = ["dataset=mnist", "dataset=fashion_mnist", "dataset=cifar10", "dataset=image_folder"]
COURSES = ["mnist_full", "digits", "cats", "photos", "cifar10", "cifar10_cpu"]


@pytest.mark.parametrize("words", [*IMAGES, *(f"experiment={name}" for name in COURSES)])
def test_every_recipe_builds_and_its_network_takes_the_images(words: str, composed: Compose) -> None:
    config = composed("train", words, "dataset.root=somewhere")
    shape = (1, 28, 28) if "mnist" in words or "digits" in words else (3, 32, 32)
    for group in ("schedule", "parameterization", "objective", "optimizer", "sampler", "guidance"):
        build_component(config, group)
    with torch.device("meta"):
        net = build_component(config, "model", shape=shape, num_classes=3)
    assert isinstance(net, UNet2d) and config["threads"] == 2
    assert config["stages"]["every"] == 0 or length(config)[1] % config["stages"]["every"] == 0


@pytest.mark.parametrize(
    "more", ["model=mlp", "schedule=cosine", "parameterization=eps", "sampler=heun", "objective=l1"]
)
def test_any_option_may_take_the_place_of_a_recipes(more: str, composed: Compose) -> None:
    config = composed("train", "dataset=mnist", more)
    group = more.partition("=")[0]
    extra = {"shape": (1, 28, 28), "num_classes": 10} if group == "model" else {}
    built = build_component(config, group, **extra)
    assert isinstance(built, nn.Module) if group == "model" else built is not None


def test_the_courses_asks_are_met(composed: Compose) -> None:
    names = ("digits", "cats", "cifar10")
    digits, cats, cifar = (
        composed("train", f"experiment={name}", "dataset.root=somewhere") for name in names
    )
    assert digits["schedule"] == {
        "_target_": "diffusion_cli.schedule.cosine",
        "T": 200,
        "s": 0.008,
        "alpha_min": 0.001,
    }
    assert digits["guidance"]["_target_"].endswith("ClassifierFree")
    assert digits["parameterization"]["_target_"].endswith("Eps")
    net = build_component(digits, "model", shape=(1, 28, 28), num_classes=10)
    blocks = [m for m in net.modules() if type(m).__name__ == "UNetBlock"]
    assert len(blocks) == 4 and all(block.attention is not None for block in blocks)
    assert cats["objective"]["loss"] == "l1" and cats["schedule"]["T"] == 50 and cats["steps"] == 10_000
    assert (
        cats["optimizer"]["lr"] == 1e-3 and cats["model"]["width"] == 16 and cats["sampler"]["clip"] == "data"
    )
    assert cats["monitor"]["every"] == 100 and cats["batch_size"] == 32
    assert cifar["optimizer"]["kind"] == "adamw" and cifar["optimizer"]["weight_decay"] == 1e-4
    assert cifar["schedule"]["T"] == 1000 and cifar["dataset"]["flip"] and cifar["optimizer"]["clip"] == 1.0
    assert abs(cifar["optimizer"]["warmup"] - 391 * cifar["epochs"] / 10) < 100
    assert cifar["epochs"] == 4 * cifar["stages"]["every"] == 200 and cifar["steps"] is None
