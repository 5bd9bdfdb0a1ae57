"""Each diagnosis on what is ill in that way, and on what is not; and the command on real runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.__main__ import main
from diffusion_cli.dataset.box import Box
from diffusion_cli.guidance import ClassifierFree, Unguided
from diffusion_cli.metrics import diagnosis
from diffusion_cli.prediction import Eps, V
from diffusion_cli.sampler import DDIM, DDPM, Multistep

COSINE = schedule.cosine(T=50)
UNIT = Box(torch.tensor([0.0]), torch.tensor([1.0]))
with pytest.warns(UserWarning, match="is not noise"):
    SHORT = schedule.constant(T=10, beta=0.01)


@pytest.mark.parametrize(
    ("well", "ill", "number"),
    [
        (diagnosis.end_of_schedule(COSINE), diagnosis.end_of_schedule(SHORT), f"{0.99**5:.3g}"),
        (
            diagnosis.scale_of_data(torch.tensor([[-1.0], [1.0]])),
            diagnosis.scale_of_data(torch.tensor([[-40.0], [40.0]])),
            "56.6",
        ),
        (
            # from sigma/alpha = 1, half a right angle, to 0
            diagnosis.error_of_network({1.0: 0.02}, 2),
            diagnosis.error_of_network({1.0: 0.5}, 2),
            f"{0.5 * math.pi / 4:.2g} off its way to the data, most at sigma/alpha = 1",
        ),
        (diagnosis.average(0.31, 0.3), diagnosis.average(0.9, 0.3), "3 times"),
        (
            diagnosis.amplified_errors(COSINE, DDPM(clip=1.0), Eps()),
            diagnosis.amplified_errors(COSINE, DDPM(), Eps()),
            "times in x0",
        ),
        (
            diagnosis.steps(Multistep(steps=10), 50),
            diagnosis.steps(DDIM(steps=10), 50),
            "10 of T = 50, order 1",
        ),
        (
            diagnosis.guidance(ClassifierFree(2.0), 0.1),
            diagnosis.guidance(ClassifierFree(2.0), 0.0),
            "weight 2",
        ),
        (
            diagnosis.finite(torch.zeros(4, 2)),
            diagnosis.finite(torch.tensor([[0.0, 1.0], [0.0, torch.inf]])),
            "50.00%",
        ),
        (
            diagnosis.out_of_range(torch.tensor([[0.5], [1.05]]), UNIT),
            diagnosis.out_of_range(torch.tensor([[0.5], [1.2]]), UNIT),
            "50.00%",
        ),
    ],
)
def test_what_is_ill_is_found_with_its_number(
    well: diagnosis.Finding, ill: diagnosis.Finding, number: str
) -> None:
    assert well.well and str(well).startswith("well  ")
    assert not ill.well and number in ill.value and ill.change in str(ill)


def test_what_does_no_harm_is_not_blamed() -> None:
    assert diagnosis.amplified_errors(COSINE, DDPM(), V()).well
    assert diagnosis.amplified_errors(COSINE, DDIM(clip=1.0), Eps()).well
    assert not diagnosis.amplified_errors(COSINE, DDIM(), Eps()).well
    assert (
        diagnosis.guidance(Unguided(), 0.0) is None and diagnosis.guidance(ClassifierFree(0.0), 0.0) is None
    )


SMALL = [
    "dataset=circle",
    "batch_size=64",
    "model.width=32",
    "plots=false",
    "device=cpu",
    "threads=1",
    "precision=fp32",
]


def doctor(capfd: pytest.CaptureFixture[str], name: str) -> dict[str, bool]:
    """What is said of a run: what was looked at -> whether it is well."""
    capfd.readouterr()
    assert main(["doctor", f"run={name}", f"hydra.run.dir=of-{name}"]) == 0
    out = capfd.readouterr().out
    report = json.loads(Path(f"of-{name}", "doctor.json").read_text())
    found = {finding["what"]: finding["well"] for finding in report["findings"]}
    ill = sum(not well for well in found.values())
    assert (f"{ill} of {len(found)} need a look" if ill else f"all {len(found)} are well") in out
    return found


def test_a_run_that_is_fine_gets_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the noise end of the cosine schedule 1/alpha_T multiplies the error of eps by 1,015; clipped, it does no harm."""
    monkeypatch.chdir(tmp_path)
    line = ["schedule=cosine", "parameterization=eps", "objective=mse", "sampler=ddim", "sampler.clip=data"]
    size = ["steps=2000", "model.width=64", "batch_size=128"]
    assert main(["train", *SMALL, *line, *size, "hydra.run.dir=fine"]) == 0
    assert all(doctor(capfd, "fine").values())


def test_images_within_the_range_of_pixels_are_not_called_outliers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Though some pixel of theirs is brighter than it is in any of the few images that are looked at."""
    monkeypatch.chdir(tmp_path)
    line = [
        "dataset=mnist",
        "dataset.source=bundled",
        "model.levels=[1,2]",
        "sampler.clip=data",
        "sampler.steps=4",
    ]
    size = ["steps=4", "evaluate=false", "stages.every=0"]
    assert main(["train", *SMALL[1:], *line, *size, "hydra.run.dir=images"]) == 0
    assert doctor(capfd, "images")["samples outside of the data's range"]


def test_runs_that_are_broken_in_a_known_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, "steps=600", "optimizer.lr=1e-2", "hydra.run.dir=good"]) == 0
    # hardly trained, averaged over far more steps than there are, with a schedule that ends long before noise
    bad = [
        "steps=20",
        "optimizer.lr=1e-2",
        "schedule=constant",
        "schedule.T=10",
        "schedule.beta=0.01",
        "ema.decay=0.9999",
    ]
    good = doctor(capfd, "good")
    with pytest.warns(UserWarning, match="is not noise"):
        assert main(["train", *SMALL, *bad, "hydra.run.dir=bad"]) == 0
        ill = doctor(capfd, "bad")
    for what in (
        "x_T is noise",
        "scale of the data",
        "averaged weights",
        "error of the network",
        "errors at T",
        "steps of the sampler",
    ):
        assert good[what], what
    for what in ("x_T is noise", "error of the network", "steps of the sampler"):
        assert not ill[what], what
    assert main(["doctor", "run=exact", "hydra.run.dir=none"]) == 2
    assert "has no network that could be at fault" in capfd.readouterr().err and not Path("none").exists()
