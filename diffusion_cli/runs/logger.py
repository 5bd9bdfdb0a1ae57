"""Where numbers and figures of training go beside the run's own files. A logger of your own inherits from Logger."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Config, checked

if TYPE_CHECKING:
    import wandb
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter


class Logger:
    """What a logger is told; each of these does nothing here.

    wants_pictures: whether `picture` is called.
    """

    wants_pictures: ClassVar[bool] = False

    def open(self, folder: Path, config: Config) -> None:
        """Before training. UserError where a package is missing."""

    def log(self, step: int, row: dict[str, float]) -> None:
        """Numbers of a step."""

    def picture(self, step: int, name: str, png: bytes) -> None:
        """The samples of a stage, or a figure of the finished run."""

    def close(self) -> None:
        """After all else, also where training failed."""


@dataclass
class Csv(Logger):
    """Nowhere else: metrics.csv is written in every run."""


@dataclass
class TensorBoard(Logger):
    """Numbers, samples of each stage and figures as event files, for `tensorboard --logdir outputs`.

    Needs the extra `tensorboard`.
    """

    wants_pictures = True
    _writer: SummaryWriter = field(init=False, repr=False)

    def open(self, folder: Path, config: Config) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            reason = "needs the package tensorboard: pip install tensorboard"
            raise UserError("logger", "tensorboard", reason) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, row: dict[str, float]) -> None:
        for key, value in row.items():
            self._writer.add_scalar(key, value, step)

    def picture(self, step: int, name: str, png: bytes) -> None:
        import numpy as np

        self._writer.add_image(name, np.asarray(_opened(png)), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


@checked
@dataclass
class WandB(Logger):
    """Weights & Biases: numbers, samples of each stage and figures.

    project: the name under which the runs are kept.
    mode: offline writes into the run directory, to be sent later by `wandb sync`.
    """

    project: str = "diffusion_cli"
    mode: Literal["offline", "online"] = "offline"
    wants_pictures = True
    _run: wandb.Run = field(init=False, repr=False)

    def open(self, folder: Path, config: Config) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError("logger", "wandb", "needs the package wandb: pip install wandb") from None
        self._run = wandb.init(project=self.project, mode=self.mode, dir=str(folder), config=config)

    def log(self, step: int, row: dict[str, float]) -> None:
        self._run.log(row, step=step)

    def picture(self, step: int, name: str, png: bytes) -> None:
        import wandb

        self._run.log({name: wandb.Image(_opened(png))}, step=step)

    def close(self) -> None:
        self._run.finish()


def _opened(png: bytes) -> Image.Image:
    from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGB")
