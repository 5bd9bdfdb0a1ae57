"""On a GPU: the same mathematics as on a CPU, training that never waits for the device, and the same bits after a resume."""

from __future__ import annotations

import pytest
import torch
from torch import distributed as dist
from torch.distributed import FileStore, HashStore

from diffusion_cli.commands.lesson import new_state, steps_of
from diffusion_cli.components import Components, build
from diffusion_cli.device import repeat_convolutions
from diffusion_cli.errors import UserError
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.contribution import Contribution
from diffusion_cli.runs.group import Processes, place_of
from diffusion_cli.runs.processes import settled
from diffusion_cli.runs.signals import Stop
from diffusion_cli.sampler import DDIM, chain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SETS = "dataset.n=24 dataset.test=8 dataset.size=64 dataset.points=32 dataset.sample_points=32"
IMAGES = "dataset=mnist dataset.source=bundled model.width=16"
KINDS = {
    "plane": "dataset=circle",
    "frozen": "dataset=square dataset.n=50",
    "line": "dataset=gaussian1d",
    "mixture": "dataset=gmm2px guidance=cfg guidance.w=1",
    "convolutions": "dataset=gmm2px model=unet1d",
    "hybrid": "dataset=circle objective=hybrid sampler.variance=learned",
    "muon": "dataset=circle optimizer=muon",
    "sets": f"dataset=stars {SETS}",
    "images": IMAGES,
    "dropout": f"{IMAGES} model.dropout=0.1",
    "transformer": f"{IMAGES} model=dit model.width=32 model.depth=2",
    "classifier": f"{IMAGES} objective=classifier",
}


@pytest.fixture(params=KINDS)
def built(request, composed):
    """built("cuda"): the components of a small training of each kind in turn, in float32."""

    def on(device: str, **more: object) -> Components:
        line = f"{KINDS[request.param]} batch_size=16 seed=3 precision=fp32 device={device}"
        words = (*line.split(), *(f"{key}={value}" for key, value in more.items()))
        return build(settled(composed("train", *words)))

    return on


@pytest.fixture(autouse=True)
def convolutions():
    """In float32, not in the shorter TensorFloat-32; and repeatable, as every command has them."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32 = False
    repeat_convolutions()
    yield
    cudnn.allow_tf32, cudnn.deterministic = before


def trained(components, steps, state=None):
    state = state or new_state(components)
    for _ in steps_of(components, state, components.batches):
        if state.step == steps:
            break
    return state


def test_training_never_waits_for_the_device(built):
    components = built("cuda", steps=10)
    state = new_state(components)
    training = steps_of(components, state, components.batches)
    for _ in range(3):
        next(training)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in training:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.step == 10 and state.totals.finite()


def test_gradients_are_those_of_the_cpu(built):
    """By the same weights and the same batch, drawn once; dropout draws on each device for itself."""
    here, there = built("cpu"), built("cuda")
    batch = here.batches(5)
    gradients = []
    for components in (here, there):
        state = new_state(components)
        with torch.random.fork_rng([0]):
            torch.manual_seed(1)
            state.weights.values.copy_(torch.randn(len(state.weights.values)) * 0.05)
        state.net.eval()
        moved = batch._replace(
            **{k: v.to(components.device) for k, v in batch._asdict().items() if v is not None}
        )
        losses = components.objective(components.network_denoiser(state.net), moved)
        losses.mean().backward()
        gradients.append((losses.detach().cpu(), state.optimizer.grad.cpu()))
    (loss, grad), (loss_there, grad_there) = gradients
    assert torch.allclose(loss, loss_there, rtol=1e-3, atol=1e-5)
    assert (grad - grad_there).norm() < 1e-3 * grad.norm()


def test_samples_are_those_of_the_cpu(built):
    """Noise is drawn on the CPU, so that sample i is the same on whatever device."""
    found = []
    for device in ("cpu", "cuda"):
        components = built(device)
        if not components.objective.generates:
            pytest.skip("a classifier draws nothing")
        net = new_state(components).ema.eval()
        with torch.random.fork_rng([0]), torch.no_grad():
            torch.manual_seed(1)
            for p in net.parameters():
                p.copy_(torch.randn(p.shape) * 0.05)
            denoiser = components.network_denoiser(net)
            label = None
            if components.dataset.num_classes:
                label = torch.zeros(8, dtype=torch.int64, device=components.device)
            *_, last = chain(
                DDIM(steps=5), denoiser, 8, components.dataset.shape, 0, label, components.device
            )
        found.append(last.x.cpu())
    assert torch.allclose(*found, rtol=1e-2, atol=1e-3)


def test_resumed_training_has_the_same_bits(built, tmp_path):
    components = built("cuda", steps=12)
    straight, half = trained(components, 12), trained(components, 5)
    checkpoint.save(tmp_path / "x.safetensors", half.state_dict())
    again = new_state(components)
    again.load_state_dict(checkpoint.load(tmp_path / "x.safetensors"))
    resumed = trained(components, 12, again)
    assert checkpoint.digest(resumed.state_dict()) == checkpoint.digest(straight.state_dict())


def test_bf16_is_near_fp32(built):
    losses = [float(trained(built("cuda", steps=30, precision=p), 30).totals.loss) for p in ("fp32", "bf16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_two_processes_on_one_gpu_are_refused():
    store, gpu = HashStore(), torch.device("cuda", 0)
    store.set("ready1", place_of(gpu))
    with pytest.raises(
        UserError, match=r"^device=cuda: processes 0 and 1 have the same GPU.*; choose from cpu$"
    ):
        Processes(store, 0, 2, Stop()).begin({"device": "cuda"}, gpu)


def test_sums_by_nccl_of_one_process(tmp_path):
    """Beside them go words, by the network of the CPU, for which nobody waits for the device."""
    store = FileStore(str(tmp_path / "store"), 1)
    group = Processes(store, 0, 1, Stop())
    group.connect({}, torch.device("cuda", 0))
    try:
        parts = [torch.randn(1001, device="cuda") for _ in range(4)]
        expected = ((parts[0] + parts[1]) + parts[2]) + parts[3]
        group.agree(lambda: (15, True))
        total = torch.zeros(1000, device="cuda")
        losses = group.add_up([Contribution(part[:1000], 1.0, part[1000:]) for part in parts], total)
        assert torch.equal(torch.cat((total, losses)), expected) and group.agree(lambda: (None, False)) == (
            15,
            True,
        )
        group.equalize([total])
        assert torch.equal(total, expected[:1000])
    finally:
        dist.destroy_process_group()
