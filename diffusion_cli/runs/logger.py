"""Where training numbers go beside metrics.csv. Each logger: open(folder, config), log(step, row), close()."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusion_cli.errors import UserError


@dataclass
class Csv:
    """Nowhere else: metrics.csv is written in every run."""

    def open(self, folder: Path, config: dict[str, Any]) -> None: ...
    def log(self, step: int, row: dict[str, float]) -> None: ...
    def close(self) -> None: ...


@dataclass
class TensorBoard:
    """Event files in the run directory, for `tensorboard --logdir outputs`. Needs the extra `tensorboard`."""

    _writer: Any = field(default=None, init=False, repr=False)

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "logger", "tensorboard", "needs the package tensorboard: pip install tensorboard"
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, row: dict[str, float]) -> None:
        for key, value in row.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


@dataclass
class WandB:
    """Weights & Biases; mode offline writes into the run directory, to be sent later by `wandb sync`."""

    project: str = "diffusion_cli"
    mode: str = "offline"
    _run: Any = field(default=None, init=False, repr=False)

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError("logger", "wandb", "needs the package wandb: pip install wandb") from None
        if self.mode not in ("offline", "online"):
            raise UserError("logger.mode", self.mode, "no such mode", ("offline", "online"))
        self._run = wandb.init(project=self.project, mode=self.mode, dir=str(folder), config=config)

    def log(self, step: int, row: dict[str, float]) -> None:
        self._run.log(row, step=step)

    def close(self) -> None:
        self._run.finish()
