"""The units of a file and those inside a run: one centre and one scale, so that forms and angles stay what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Steps of float32 at the largest value, as a fraction of the scale, beyond which values leave the run as float64.
COARSE = 1e-5


@dataclass(frozen=True)
class Units:
    """What is x inside the run is centre + scale x in the file.

    centre: one number for each coordinate; () for none.
    scale: one for all coordinates, > 0.

    >>> Units((10.0, 20.0), 5.0).outward(torch.tensor([[1.0, -1.0]])).tolist()
    [[15.0, 15.0]]
    """

    centre: tuple[float, ...] = ()
    scale: float = 1.0

    @classmethod
    def of(cls, points: Tensor, jitter: float = 0.0) -> Units:
        """The mean of points (N, d), and their standard deviation over all coordinates, with a jitter that is added to them.

        Raises ValueError for points without spread.
        """
        points = points.double()
        centre = points.mean(0)
        offset = points - centre
        largest = float(offset.abs().max())
        # scaled first, so that no square is too large or too small
        spread = largest * float((offset / largest).square().mean().sqrt()) if largest else 0.0
        scale = float(np.hypot(spread, jitter))
        rounding = float(points.abs().max()) * 1e-15
        if scale <= rounding:
            raise ValueError("has no spread: all points are the same")
        return cls(tuple(centre.tolist()), scale)

    @property
    def standard(self) -> bool:
        """Whether nothing changes on the way."""
        return self == Units()

    def inward(self, x: Tensor) -> Tensor:
        """Values of the file (..., d) in the units of the run, float64 on the way; of x's dtype where nothing changes."""
        return x if self.standard else (x.double() - self._centre(x)) / self.scale

    def outward(self, x: Tensor) -> Tensor:
        """Values of the run (..., d) in the file's units: float32, or float64 where float32 cannot hold them."""
        if self.standard:
            return x
        values = x.cpu().double() * self.scale + self._centre(x).cpu()
        return values if self.wide else values.float()

    def array(self, x: Tensor) -> npt.NDArray[np.floating]:
        """`outward`, as a NumPy array."""
        return self.outward(x).detach().cpu().numpy()

    @property
    def wide(self) -> bool:
        """Whether float32 is too coarse for these values, or cannot hold them."""
        largest = max(map(abs, self.centre), default=0.0) + 4 * self.scale
        info = np.finfo(np.float32)
        return largest * float(info.eps) > COARSE * self.scale or self.scale < 1e-30

    def _centre(self, x: Tensor) -> Tensor:
        return torch.tensor(self.centre or (0.0,), dtype=torch.float64, device=x.device)
