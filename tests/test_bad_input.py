"""Bad values, each answered by the one line that a user needs: key, value, what would be right, what was meant."""

# ruff: noqa: E501 (messages stand as they are said)
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffusion_cli.__main__ import main
from diffusion_cli.components import build
from diffusion_cli.errors import UserError
from diffusion_cli.options.check import check_complete, check_config

CHOICES = ("dataset=", "guidance=", "objective=", "evaluation=", "logger=", "sampler=")

# What stands on the line -> what is said after "error: ". (Words that Hydra's own grammar refuses: tests/test_cli.py.)
# fmt: off
BAD = [
    ("seed=-1", "seed=-1: must be a whole number >= 0"),
    ("seed=1.5", "seed=1.5: must be a whole number >= 0"),
    ("seed=abc", "seed=abc: must be a whole number >= 0"),
    ("seed=null", "seed=null: must be a whole number >= 0"),
    ("seed=9223372036854775808", "seed=9223372036854775808: must be a whole number >= 0"),
    ("device=gpu", "device=gpu: must be one of the choices; did you mean cpu? choose from auto, cpu, cuda, cuda:N, mps"),
    ("device=cuda:x", "device=cuda:x: must be one of the choices; did you mean cuda:N? choose from auto, cpu, cuda, cuda:N, mps"),
    ("threads=0", "threads=0: must be a whole number in 1..1024, or null"),
    ("threads=5000", "threads=5000: must be a whole number in 1..1024, or null"),
    ("precision=fp16", "precision=fp16: must be one of the choices; did you mean bf16? choose from auto, fp32, bf16"),
    ("steps=0", "steps=0: must be a whole number >= 1, or null"),
    ("steps=-5", "steps=-5: must be a whole number >= 1, or null"),
    ("steps=2.5", "steps=2.5: must be a whole number >= 1, or null"),
    ("batch_size=0", "batch_size=0: must be a whole number in 1..1000000000"),
    ("batch_size=9999999999", "batch_size=9999999999: must be a whole number in 1..1000000000"),
    ("resume=1", "resume=1: must be one of the choices; choose from true, false"),
    ("plots=maybe", "plots=maybe: must be one of the choices; choose from true, false"),
    ("log_every=0", "log_every=0: must be a whole number >= 1"),
    ("n=0", "n=0: must be a whole number in 1..1000000000"),
    ("n=three", "n=three: must be a whole number in 1..1000000000"),
    ("label=-1", "label=-1: must be a class, its number or its name, or a list, each a class, its number or its name, or null"),
    ("label=[0,-1]", "label=[0,-1]: must be a class, its number or its name, or a list, each a class, its number or its name, or null"),
    ("ema.decay=1", "ema.decay=1: must be a number in [0, 1)"),
    ("ema.decay=1.5", "ema.decay=1.5: must be a number in [0, 1)"),
    ("sample_batch=0", "sample_batch=0: must be a whole number in 1..1000000000"),
    ("checkpoint.every=0", "checkpoint.every=0: must be a whole number >= 1"),
    ("checkpoint.keep=0", "checkpoint.keep=0: must be a whole number >= 1"),
    ("stages.every=-1", "stages.every=-1: must be a whole number >= 0, or null"),
    ("stages.n=0", "stages.n=0: must be a whole number in 1..1000000000"),
    ("evaluation.n=1", "evaluation.n=1: must be a whole number in 2..1000000000"),
    ("evaluation.draws=0", "evaluation.draws=0: must be a whole number in 1..1000"),
    ("evaluation.floor_draws=1", "evaluation.floor_draws=1: must be a whole number in 2..1000"),
    ("dataset.n=0", "dataset.n=0: must be a whole number in 1..100000000, or null"),
    ("dataset.jitter=-0.1", "dataset.jitter=-0.1: must be a number >= 0"),
    ("dataset._target_=os.system", "dataset._target_=os.system: not one of ours (diffusion_cli.dataset.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("dataset._target_=diffusion_cli.dataset.plane.Circel", "dataset._target_=diffusion_cli.dataset.plane.Circel: cannot be imported (module 'diffusion_cli.dataset.plane' has no attribute 'Circel')"),
    ("dataset._target_=diffusion_cli.dataset.nothing.X", "dataset._target_=diffusion_cli.dataset.nothing.X: cannot be imported (module 'diffusion_cli.dataset' has no attribute 'nothing')"),
    ("dataset._target_=7", "dataset._target_=7: must be the name of a class"),
    ("model.width=0", "model.width=0: must be a whole number in 1..65536"),
    ("model.width=70000", "model.width=70000: must be a whole number in 1..65536"),
    ("model.depth=0", "model.depth=0: must be a whole number in 1..1024"),
    ("model.depth=many", "model.depth=many: must be a whole number in 1..1024"),
    ("model._target_=torch.nn.Linear", "model._target_=torch.nn.Linear: not one of ours (diffusion_cli.model.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("model._target_=diffusion_cli.model.mlp.nn.Linear", "model._target_=diffusion_cli.model.mlp.nn.Linear: is not a component of model; a module of your own is enabled by DIFFUSION_CLI_TRUST=MODULE"),
    ("schedule.T=0", "schedule.T=0: must be a whole number in 1..1000000"),
    ("schedule.T=2000000", "schedule.T=2000000: must be a whole number in 1..1000000"),
    ("schedule.sigma_min=0", "schedule.sigma_min=0: must be a number > 0"),
    ("schedule.sigma_max=inf", "schedule.sigma_max=inf: must be a number > 0"),
    ("schedule.sigma_min=30", "schedule.sigma_max=20.0: must be above sigma_min=30"),
    ("schedule.s=0.1", "schedule.s=0.1: is no option of loglinear; choose from T, sigma_min, sigma_max"),
    ("parameterization.x=1", "parameterization.x=1: is no option of V; choose from sigma_data"),
    ("objective.loss=mae", "objective.loss=mae: must be one of the choices; did you mean mse? choose from mse, l1, huber, pseudo_huber"),
    ("objective.loss=L1", "objective.loss=L1: must be one of the choices; did you mean l1? choose from mse, l1, huber, pseudo_huber"),
    ("objective.weighting=snr", "objective.weighting=snr: must be one of the choices; did you mean min_snr? choose from simple, vlb, min_snr"),
    ("objective.times=normal", "objective.times=normal: must be one of the choices; did you mean lognormal? choose from uniform, stratified, lognormal"),
    ("optimizer.lr=0", "optimizer.lr=0: must be a number > 0"),
    ("optimizer.lr=-0.001", "optimizer.lr=-0.001: must be a number > 0"),
    ("optimizer.lr=nan", "optimizer.lr=nan: must be a number > 0"),
    ("optimizer.lr=fast", "optimizer.lr=fast: must be a number > 0"),
    ("optimizer.kind=sgd", "optimizer.kind=sgd: must be one of the choices; choose from adam, adamw, muon"),
    ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: must be a list of 2, each a number in [0, 1)"),
    ("optimizer.betas=[0.9,1.0]", "optimizer.betas=[0.9,1.0]: must be a list of 2, each a number in [0, 1)"),
    ("optimizer.decay=linear", "optimizer.decay=linear: must be one of the choices; choose from cosine, constant"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1: must be a number >= 0"),
    ("optimizer.warmup=-1", "optimizer.warmup=-1: must be a whole number >= 0"),
    ("optimizer.clip=0", "optimizer.clip=0: must be a number > 0, or null"),
    ("optimizer.lrate=0.9", "optimizer.lrate=0.9: is no option of Optimizer; choose from kind, lr, betas, weight_decay, warmup, decay, clip, momentum"),
    ("sampler.steps=0", "sampler.steps=0: must be a whole number in 1..1000000, or null"),
    ("sampler.variance=big", "sampler.variance=big: must be one of the choices; choose from beta, posterior, analytic, learned"),
    ("sampler.grid=log", "sampler.grid=log: must be one of the choices; did you mean log_snr? choose from uniform, log_snr, rho, fitted"),
    ("sampler.clip=-1", "sampler.clip=-1: must be a number > 0, or one of the choices, or null; choose from data"),
    ("sampler=ddim sampler.eta=2", "sampler.eta=2: must be a number in [0, 1]"),
    ("dataset=gmm2px guidance=cfg guidance.w=nan", "guidance.w=nan: must be a number"),
    ("guidance.label_dropout=1", "guidance.label_dropout=1: must be a number in [0, 1)"),
    ("guidance._target_=diffusion_cli.guidance.ClassifierFree", "guidance=cfg: this dataset has no labels, and so its model knows none; choose from none, auto"),
    ("evaluation._target_=os.path.join", "evaluation._target_=os.path.join: not one of ours (diffusion_cli.metrics.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("logger._target_=logging.FileHandler", "logger._target_=logging.FileHandler: not one of ours (diffusion_cli.runs.logger.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("figures.loss._target_=os.system", "figures.loss._target_=os.system: not one of ours (diffusion_cli.figures.recipes.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("figures.loss._partial_=true", "figures.loss._partial_=true: not allowed in a configuration"),
    ("extra._target_=diffusion_cli.model.mlp.MLP", "extra._target_=diffusion_cli.model.mlp.MLP: a class is not named here, but by its group; choose from dataset, model, schedule, parameterization, objective, optimizer, guidance, sampler, evaluation, logger, figure"),
    ("ema=0.99", "ema=0.99: holds further keys, not a value; choose from ema.decay"),
    ("optimizer=adam", "optimizer=adam: holds further keys, not a value; choose an option: optimizer=NAME"),
    ("figures.a/b=null", "figures.a/b: no name of a key: letters, digits, _ and - only"),
    ("../x=1", "../x: no name of a key: letters, digits, _ and - only"),
    ("dataset=stars dataset.points=0", "dataset.points=0: must be a whole number in 1..1000000000, or a list of 2, each a whole number in 1..1000000000, or null"),
    ("dataset=gmm2px dataset.labels=maybe", "dataset.labels=maybe: must be one of the choices; choose from true, false"),
    ("loss_levels=[0]", "loss_levels=[0]: must be a list, each a number > 0, or null"),
    ("monitor.every=-1", "monitor.every=-1: must be a whole number >= 0, or null"),
    ("dataset.radius=0", "dataset.radius=0: must be a number > 0"),
    ("dataset.radius=-1", "dataset.radius=-1: must be a number > 0"),
    ("dataset.radius=wide", "dataset.radius=wide: must be a number > 0"),
    ("sampler.rho=0", "sampler.rho=0: must be a number > 0"),
    ("model.activation=relu6", "model.activation=relu6: must be one of the choices; did you mean relu? choose from silu, gelu, relu"),
    ("model.x_embedding=fourier2", "model.x_embedding=fourier2: must be one of the choices, or null; did you mean fourier? choose from rings, harmonics, sinusoidal, fourier, none"),
    ("model.time_embedding=none2", "model.time_embedding=none2: must be one of the choices; did you mean none? choose from fourier, sinusoidal, none"),
    ("parameterization.sigma_data=0", "parameterization.sigma_data=0: must be a number > 0"),
    ("evaluation.metric=fid", "evaluation.metric=fid: is no option of PointEvaluation; choose from n, draws, floor_draws"),
    ("objective.gamma=0", "objective.gamma=0: must be a number > 0"),
    ("objective._target_=diffusion_cli.objective.Huber", "objective._target_=diffusion_cli.objective.Huber: cannot be imported (module 'diffusion_cli.objective' has no attribute 'Huber')"),
    ("schedule._target_=diffusion_cli.schedule.cosinus", "schedule._target_=diffusion_cli.schedule.cosinus: cannot be imported (module 'diffusion_cli.schedule' has no attribute 'cosinus')"),
    ("sampler._target_=diffusion_cli.sampler.chain", "sampler._target_=diffusion_cli.sampler.chain: is not a component of sampler; a module of your own is enabled by DIFFUSION_CLI_TRUST=MODULE"),
    ("sampler._target_=diffusion_cli.dataset.download.fetch", "sampler._target_=diffusion_cli.dataset.download.fetch: not one of ours (diffusion_cli.sampler.*); DIFFUSION_CLI_TRUST=MODULE enables a module of your own"),
    ("seed=[1,2]", "seed=[1,2]: must be a whole number >= 0"),
    ("steps=true", "steps=true: must be a whole number >= 1, or null"),
    ("resume=null", "resume=null: must be one of the choices; choose from true, false"),
    ("export=1", "export=1: must be one of the choices; choose from true, false"),
    ("weights=newest", "weights=newest: must be one of the choices, or a whole number >= 1; did you mean best? choose from last, best"),
    ("weights=0", "weights=0: must be one of the choices, or a whole number >= 1; choose from last, best"),
    ("run=''", "run=: must be a name or a path"),
    ("optimizer.lr=true", "optimizer.lr=true: must be a number > 0"),
    ("optimizer.lr=[0.1]", "optimizer.lr=[0.1]: must be a number > 0"),
    ("optimizer.betas=0.9", "optimizer.betas=0.9: must be a list of 2, each a number in [0, 1)"),
    ("inpaint=top", "inpaint=top: must be one of the choices, or null; choose from left_half, right_half, box, random, FILE.npy, FILE.png"),
    ("repaint.passes=0", "repaint.passes=0: must be a whole number >= 1"),
    ("dataset=stars dataset.arms=[9,3]", "dataset.arms=[9,3]: must be [lowest, highest]"),
    ("dataset=gmm2px dataset.labels=1", "dataset.labels=1: must be one of the choices; choose from true, false"),
    ("dataset._target_=diffusion_cli.dataset.download.fetch", "dataset._target_=diffusion_cli.dataset.download.fetch: is not a component of dataset; a module of your own is enabled by DIFFUSION_CLI_TRUST=MODULE"),
    ("evaluation=likelihood evaluation.steps=abc", "evaluation.steps=abc: must be a whole number in 1..1000000"),
    ("schedule.beta_min=abc", "schedule.beta_min=abc: is no option of loglinear; choose from T, sigma_min, sigma_max"),
    ("figures.loss.floor_draws=0", "figures.loss.floor_draws=0: must be a whole number in 1..1000000000"),
    ("figures.loss=3", "figures.loss=3: holds further keys, not a value; choose an option: figure=NAME"),
    ("figures=3", "figures=3: holds figures by their names: figures.loss=null leaves one out, plots=false all"),
    ("logger=wandb logger.mode=of", "logger.mode=of: must be one of the choices; choose from offline, online"),
    ("model={}", "model._target_: missing; choose an option of the group"),
    ("max_minutes=0", "max_minutes=0: must be a number > 0, or null"),
    ("init=3", "init=3: must be a name or a path, or null"),
]
# fmt: on


def judged(config: dict[str, Any], words: list[str]) -> str:
    """What `train` says of these values before it trains: by their ranges, and where its objects are made."""
    for word in words:
        key, _, value = word.partition("=")
        *above, last = key.split(".") if not key.startswith("../") else [key]
        node = config
        for name in above:
            node = node.setdefault(name, {})
        node[last] = yaml.safe_load(value)
    with pytest.raises(UserError) as error:
        check_config(config)
        check_complete(config, "train")
        components = build(config)
        _ = components.times, components.logger, components.new_net()
    return str(error.value)


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_value_is_named_in_one_line(
    composed: Callable[..., dict[str, Any]], line: str, message: str
) -> None:
    choices = [word for word in line.split() if word.startswith(CHOICES)]
    assert (
        judged(composed("train", *choices), [word for word in line.split() if word not in choices]) == message
    )


def test_the_list_is_long() -> None:
    assert len({line for line, _ in BAD}) == len(BAD) >= 60


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A whole command line that must be refused, with nothing left: what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*line: str) -> str:
        capfd.readouterr()
        assert main(list(line)) == 2
        assert list(tmp_path.rglob("*")) == []
        return capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    "line", ["optimizer.lr=-0.001", "model.activation=relu6", "sampler.grid=log", "dataset.radius=0"]
)
def test_the_command_says_the_same(said: Callable[..., str], line: str) -> None:
    assert said("train", line) == f"error: {dict(BAD)[line]}\n"


@pytest.mark.parametrize("line", ["optimizer.lr=0.01,-0.001", "optimizer.lr=-0.001,0.01"])
def test_a_sweep_says_the_same_before_any_job(said: Callable[..., str], line: str) -> None:
    assert said("train", "-m", "seed=0,1", line) == f"error: {dict(BAD)['optimizer.lr=-0.001']}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sample run=nowhere", "run=nowhere: no such directory"),
        ("sample run=exact weights=best", "weights=best: needs a trained run"),
        ("sample run=exact export=true", "export=true: needs a trained run"),
        ("evaluate run=exact export=true", "export=true: no such key; *"),
        ("sample", "run=latest: there is no finished run below outputs/train; train one, or say run=DIR"),
        ("train weights=best", "weights=best: no such key; *"),
        ("train dataset=../model/mlp", "*"),
        ("train dataset=/etc/passwd", "*"),
        ("train --config-dir /etc/passwd", "--config-dir=/etc/passwd: no such directory"),
    ],
)
def test_other_commands_too(said: Callable[..., str], line: str, message: str) -> None:
    text = said(*line.split())
    assert text.startswith("error: " + message.rstrip("*\n")) and text.count("\n") == 1
    assert message.endswith("*") or text == f"error: {message}\n"
