"""The judge of images, and the classifier of noised ones: what they learn, and how a judge is kept."""

import logging

import pytest
import torch

from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics import judge
from diffusion_cli.metrics.classification import ClassifierEvaluation
from diffusion_cli.metrics.judge import Judge, judge_for
from diffusion_cli.metrics.judge_network import FEATURES
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.model.classifier import LabelClassifier
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.set import SetNet
from diffusion_cli.model.unet2d import UNet2d
from diffusion_cli.runs import checkpoint
from diffusion_cli.schedule import loglinear


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and judges that train for a moment only."""
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "LEAST_STEPS", 20)
    monkeypatch.setattr(judge, "EPOCHS", 1)
    monkeypatch.setattr(judge, "BATCH", 32)
    return tmp_path / "cache" / "judges"


def bars(n, seed):
    """Images of 12 x 12 pixels with a bright bar on the left (label 0) or at the top (label 1), in noise."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=g)
    images = torch.randint(0, 120, (n, 1, 12, 12), generator=g, dtype=torch.uint8)
    for image, k in zip(images, label, strict=True):
        image[0, :, 2:4] += 120 * (1 - k).byte()
        image[0, 2:4, :] += 120 * k.byte()
    return Split(images, label)


def data(seed=0, **options):
    return ImageDataset(
        bars(160, seed), bars(100, seed + 1), ("left", "top"), digest=f"bars {seed}", **options
    )


def files(cache):
    return sorted(cache.glob("*.safetensors"))


def test_it_reads_the_labels_and_says_what_it_cost(caplog, cache):
    caplog.set_level(logging.INFO)
    one = judge_for(data())
    assert one.task == "labels" and one.outputs == 2
    assert one.accuracy == pytest.approx(judge.accuracy(one, data().test)) and one.accuracy > 0.9
    assert "training a judge of these images, once: 20 steps, about" in caplog.text
    assert f"recognizes {100 * one.accuracy:.2f} % of the labels of 100 held-out images" in caplog.text
    x = data().test.batch(slice(5)).x0
    assert one.features(x).shape[1] > FEATURES and torch.allclose(
        one.head(one.features(x)), one(x), atol=1e-5
    )
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_it_is_trained_once_and_kept(caplog, cache, monkeypatch):
    first, x = judge_for(data()), data().test.batch(slice(50)).x0
    assert len(files(cache)) == 1
    monkeypatch.setattr(judge, "train_judge", lambda *_: pytest.fail("trained again"))
    again = judge_for(data())
    assert again.digest == first.digest and again.accuracy == first.accuracy and again.task == first.task
    assert torch.equal(again.features(x), first.features(x))


def test_it_is_a_function_of_the_data_alone(cache):
    first = judge_for(data())
    files(cache)[0].unlink()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert judge_for(data()).digest == first.digest
    assert torch.equal(torch.get_rng_state(), before)
    assert judge_for(data(seed=7)).digest != first.digest and len(files(cache)) == 2


def test_a_damaged_one_is_named_and_replaced(cache, caplog):
    digest = judge_for(data()).digest
    (file,) = files(cache)
    other = checkpoint.load(file) | {"data": ["other data", judge.RECIPE]}
    for harm in (
        lambda: file.write_bytes(file.read_bytes()[:-200]),
        lambda: checkpoint.save(file, {"anything": 1}),
        lambda: checkpoint.save(file, other),
    ):
        harm()
        caplog.clear()
        assert judge_for(data()).digest == digest
        assert str(file) in caplog.text and "training another judge" in caplog.text
    caplog.clear()
    assert judge_for(data()).digest == digest and not caplog.text


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "file"))
    assert judge_for(data()).accuracy > 0.9
    assert "cannot be kept in" in caplog.text


def test_unlabelled_images_are_judged_by_their_turn(cache):
    blind = data(labels=False)
    one = judge_for(blind)
    assert one.task == "rotations" and one.outputs == 4 and 0 < one.accuracy < 1
    x, label = judge._turned(torch.arange(16.0).view(4, 1, 2, 2), (0, 1, 2, 3))
    assert label.tolist() == [0, 1, 2, 3]
    assert x[1, 0].tolist() == [[5, 7], [4, 6]] and x[2, 0].tolist() == [[11, 10], [9, 8]]
    wide = ImageDataset(
        *[Split(part.images[:, :, :8], None) for part in (blind.train, blind.test)], digest="wide"
    )
    assert judge_for(wide).outputs == 2


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 2, 2), (3, 96, 64), (1, 5, 40)])
def test_it_takes_images_of_any_size(shape):
    assert Judge(shape, 3).eval()(torch.zeros(2, *shape)).shape == (2, 3)


def test_images_are_shifted_by_two_pixels_at_most():
    x = torch.zeros(200, 1, 16, 16)
    x[:, :, 8, 8] = 1
    places = judge._shifted(x, torch.Generator().manual_seed(0)).flatten(1).argmax(1)
    found = {(int(p) // 16 - 8, int(p) % 16 - 8) for p in places}
    assert found == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}


def test_a_classifier_of_noised_images_learns_to_read_them():
    torch.manual_seed(0)
    net = LabelClassifier(UNet2d((1, 12, 12), width=8, levels=[1, 2], features=16), 2)
    x, label, _ = data().train.batch(slice(None))
    assert torch.equal(net(x, torch.zeros(1)), torch.zeros(160, 2))
    optimizer, schedule = torch.optim.Adam(net.parameters(), lr=5e-3), loglinear(20)
    for step in range(40):
        g = torch.Generator().manual_seed(step)
        level = schedule.level(torch.randint(1, 21, (160,), generator=g), like=x)
        x_t = level.alpha * x + level.sigma * torch.randn(x.shape, generator=g)
        torch.nn.functional.cross_entropy(net(x_t, level.noise_level), label).backward()
        optimizer.step()
        optimizer.zero_grad()
    given = EvaluationInput(data(), schedule, classifier=net.eval())
    report = ClassifierEvaluation(n=1_500)(given)
    # More noise, less to read.
    assert report["accuracy_0.1_1"]["value"] > 0.9 > report["accuracy_1_10"]["value"] > 0.5
    assert report["n"] == 1_500 and "accuracy, noise 1 to 10" in ClassifierEvaluation().table(report)


def test_a_classifier_needs_features_and_classes():
    assert LabelClassifier(MLP((1, 8, 8), width=8, depth=1), 3).shape == (1, 8, 8)  # model=mlp of images
    assert LabelClassifier(UNet2d((1, 8, 8), width=8, dropout=0.2), 3).dropout == 0.2
    with pytest.raises(ArgumentError, match="is built on an MLP, or for images a UNet2d, not a SetNet"):
        LabelClassifier(SetNet((8, 2), width=8), 3)
    with pytest.raises(ArgumentError, match="needs a dataset with classes"):
        LabelClassifier(MLP((1, 8, 8)), 0)


@pytest.mark.parametrize("body", [MLP((1, 12, 12), width=8), UNet2d((1, 12, 12), width=8, features=16)])
def test_a_classifier_has_no_parameter_that_its_logits_ignore(body):
    net = LabelClassifier(body, 3)
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    net(torch.randn(5, 1, 12, 12), torch.zeros(1)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
