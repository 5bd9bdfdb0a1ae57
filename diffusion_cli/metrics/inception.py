"""Inception's features, for those who want the Fréchet distance of the literature: an optional extra.

Nothing is downloaded here: the network is torch-fidelity's, its weights must lie where torch-fidelity keeps them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from diffusion_cli.errors import UserError

WEIGHTS = (
    "weights-inception-2015-12-05-6726825d.pth"  # by torch's custom the name ends in the start of its SHA-256
)
AT_ONCE = 16  # images, each of which takes 20 MB on its way
FROM = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"


def weights_file() -> Path:
    """The weights, if the package and they are here; UserError (evaluation.extractor) tells what to do otherwise."""
    if importlib.util.find_spec("torch_fidelity") is None:
        raise UserError("evaluation.extractor", "inception", "needs the package torch-fidelity: pip install "
                        "'diffusion-cli[inception]'")  # fmt: skip
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not file.is_file():
        raise UserError(
            "evaluation.extractor", "inception", f"its weights are not here; put {FROM}/{WEIGHTS} at {file}"
        )
    return file


class Inception:
    """InceptionV3 as in Heusel et al. 2017 (TensorFlow's of 2015, ported bit for bit): 2,048 features.

    features(x): x (B, C, H, W) in [-1, 1], grey or RGB of any size; resized to 299 x 299 within.
    """

    name, task, accuracy, head = "inception", "classes of ImageNet", None, None

    def __init__(self, device: torch.device | str = "cpu") -> None:
        file = weights_file()
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if not self.digest.startswith(file.stem.rpartition("-")[2]):  # before torch-fidelity unpickles it
            raise UserError("evaluation.extractor", "inception", f"{file}: wrong checksum; fetch it again")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except Exception as error:  # a torchvision of another torch raises RuntimeError
            reason = f"torch-fidelity cannot be imported: {error}"
            raise UserError("evaluation.extractor", "inception", reason) from error
        self.net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file)).to(device)

    def features(self, x: Tensor) -> Tensor:
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
        return torch.cat([self.net(part)[0] for part in pixels.split(AT_ONCE)])
