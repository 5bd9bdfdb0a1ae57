"""Inception's features, for those who want the Fréchet distance of the literature: an optional extra.

The network is torch-fidelity's; its weights lie where torch-fidelity keeps them, or are downloaded to there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from diffusion_cli.dataset.download import Unreachable, fetch
from diffusion_cli.errors import ArgumentError

# By torch's custom the name ends in the start of its SHA-256.
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
AT_ONCE = 16  # images, each of which takes 20 MB on its way
FROM = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"


def weights_file() -> Path:
    """The weights, from where they are or from the network; ArgumentError says what to do where they are in neither, or the
    package is missing."""
    if importlib.util.find_spec("torch_fidelity") is None:
        raise _refused("needs the package torch-fidelity: pip install 'diffusion-cli[inception]'")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return fetch(WEIGHTS, [FROM], folder, check_weights)
    except Unreachable as error:
        reason = f"its weights are not here and cannot be fetched ({error}); put {FROM}{WEIGHTS} at {folder}"
        raise _refused(reason) from None


def check_weights(file: Path, name: str) -> str:
    """The SHA-256 of a file, 64 hex digits, which its name must end in the start of; else ArgumentError."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if not digest.startswith(Path(name).stem.rpartition("-")[2]):
        raise _refused(f"{file}: wrong checksum; fetch it again")
    return digest


def _refused(reason: str) -> ArgumentError:
    return ArgumentError("extractor", "inception", reason)


class Inception:
    """InceptionV3 as in Heusel et al. 2017 (TensorFlow's of 2015, ported bit for bit): 2,048 features.

    Images are grey or RGB, of any size; they are resized to 299 x 299 within.
    """

    name = "inception"
    task = "classes of ImageNet"
    accuracy = None
    head = None

    def __init__(self, device: torch.device | str = "cpu") -> None:
        file = weights_file()
        # Before torch-fidelity unpickles it.
        self.digest = check_weights(file, file.name)
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except Exception as error:
            # A torchvision of another torch raises RuntimeError.
            raise _refused(f"torch-fidelity cannot be imported: {error}") from error
        self.net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file)).to(device)

    def __reduce__(self) -> tuple[Callable[[], Inception], tuple[()]]:
        # to another process: its weights are read there, and once
        return _inception, ()

    def to(self, device: torch.device | str) -> Inception:
        """Itself, on a device."""
        self.net.to(device)
        return self

    def features(self, x: Tensor) -> Tensor:
        """(B, 2048) of x (B, C, H, W) in [-1, 1]."""
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
        return torch.cat([self.net(part)[0] for part in pixels.split(AT_ONCE)])


@functools.cache
def _inception() -> Inception:
    return Inception()
