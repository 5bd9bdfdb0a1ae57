"""Noise and blur are told from images, whatever the classifier has learned."""

import math

import pytest
import torch
from torch.nn import functional as F

from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.dataset.mnist import Mnist
from diffusion_cli.metrics import judge
from diffusion_cli.metrics.image_report import RealImages
from diffusion_cli.metrics.texture import LEVELS, Texture, texture


def test_the_statistics_of_gaussian_noise_are_those_of_its_formulas():
    g = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(200, 1, 64, 64, generator=g)
    found = texture(x).mean(0)
    assert found.shape == (2 + 3 * LEVELS,)
    # root mean square over mean absolute value of a Gaussian: sqrt(pi / 2), less the floor's part
    assert float(found[3]) == pytest.approx(math.log(math.pi / 2) / 2, abs=0.01)
    assert float(found[0]) == pytest.approx(0, abs=0.05) and float(found[1]) == pytest.approx(5, rel=0.01)
    # the energy of white noise falls with the scale; a fourth of it is left of a mean of 2 x 2
    assert float(found[2]) > float(found[5]) > float(found[8])
    assert texture(torch.zeros(2, 3, 5, 7)).isfinite().all() and texture(torch.zeros(2, 1, 1, 9)).shape == (
        2,
        2,
    )


def test_they_are_scaled_by_real_images_and_nothing_drowns_the_others():
    g = torch.Generator().manual_seed(0)
    real = torch.rand(500, 1, 16, 16, generator=g) * torch.rand(500, 1, 1, 1, generator=g)
    eye = Texture((1, 16, 16))
    eye.fit(real, 7.0)
    assert float(eye(real).var(0).sum()) == pytest.approx(7.0, rel=0.5)
    assert float(eye(torch.full((1, 1, 16, 16), 1e6)).abs().max()) < 50


def blurred(x, sigma):
    offsets = torch.arange(-6, 7).float()
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    x = F.conv2d(F.pad(x, (6, 6, 6, 6), mode="reflect"), kernel)
    return F.conv2d(x, kernel.transpose(2, 3))


@pytest.mark.parametrize("labels", [True, False])
def test_noise_and_blur_rank_below_real_digits(tmp_path, monkeypatch, labels):
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path))
    monkeypatch.setattr(judge, "EPOCHS", 1)
    monkeypatch.setattr(judge, "LEAST_STEPS", 40)
    monkeypatch.setattr(judge, "BATCH", 32)
    digits = Mnist(source="bundled")
    data = ImageDataset(digits.train, digits.test, digits.class_names, "digits", labels=labels)
    real = RealImages(judge.judge_for(data), data, 300, 2, 3)
    x, g = data.train.batch(slice(300)).x0, torch.Generator().manual_seed(0)
    eps = torch.randn(x.shape, generator=g)
    floor = real.floor[0]

    def numbers(images):
        return real.compare(real.extractor.features(images.clamp(-1, 1)).double())

    before = floor
    for worse in (x + 0.1 * eps, x + 0.5 * eps, eps):
        found = numbers(worse)
        assert found["precision"] < before["precision"] - 0.1 or found["precision"] == 0
        assert found["frechet"] > 2 * before["frechet"] and found["kernel"] > max(2 * before["kernel"], 0)
        before = found
    before = floor
    for worse in (blurred(x, 0.7), blurred(x, 1.5), blurred(x, 4)):
        found = numbers(worse)
        assert found["precision"] < before["precision"] - 0.3 or found["precision"] == 0
        assert found["frechet"] > 1.5 * before["frechet"] and found["kernel"] > max(1.5 * before["kernel"], 0)
        before = found
