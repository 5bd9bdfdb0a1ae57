"""Where training numbers go beside metrics.csv. Each logger: open(folder, config), log(step, row), close()."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import checked


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


@checked
@dataclass
class WandB:
    """Weights & Biases.

    project: the name under which the runs are kept.
    mode: offline writes into the run directory, to be sent later by `wandb sync`.
    """

    project: str = "diffusion_cli"
    mode: Literal["offline", "online"] = "offline"
    _run: Any = field(default=None, init=False, repr=False)

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError("logger", "wandb", "needs the package wandb: pip install wandb") from None
        self._run = wandb.init(project=self.project, mode=self.mode, dir=str(folder), config=config)

    def log(self, step: int, row: dict[str, float]) -> None:
        self._run.log(row, step=step)

    def close(self) -> None:
        self._run.finish()
