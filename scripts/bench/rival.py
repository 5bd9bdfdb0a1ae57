"""The rival of scripts/benchmark: the training and sampling loops that small diffusion repositories share.

Written anew from a description of tiny-diffusion's setting, as plainly as it is done there: an epoch is a pass of a
shuffling DataLoader over 8,000 points, the incomplete batch dropped; coordinates (times 25) and t go through
sinusoidal embeddings of 128 dimensions; T = 50 linear betas; AdamW 1e-3, gradients clipped to norm 1; every step
updates a progress bar and reads the loss twice; sampling gathers its coefficients from tables at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

T = 50
WIDTH = 128


class Sinusoidal(nn.Module):
    """(...) -> (..., size): sin and cos of scale * x at size / 2 frequencies from 1 to 1/10000."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, x: Tensor) -> Tensor:
        half = self.size // 2
        frequency = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half))
        angle = (x * self.scale).unsqueeze(-1) * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Block(nn.Module):
    """x + GELU(Linear(x))."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.activation(self.linear(x))


class Network(nn.Module):
    """eps from x (B, 2) and t (B,); 99,074 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Sinusoidal(WIDTH, scale=1.0)
        self.first = Sinusoidal(WIDTH, scale=25.0)
        self.second = Sinusoidal(WIDTH, scale=25.0)
        blocks = [Block(WIDTH) for _ in range(3)]
        self.joint = nn.Sequential(nn.Linear(3 * WIDTH, WIDTH), nn.GELU(), *blocks, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedded = torch.cat([self.first(x[:, 0]), self.second(x[:, 1]), self.time(t)], dim=-1)
        return self.joint(embedded)


class NoiseTables:
    """The tables of a linear schedule, t = 0..T-1, and the two formulas that gather from them."""

    def __init__(self) -> None:
        self.betas = torch.linspace(1e-4, 0.02, T)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.alphas_cumprod_prev = F.pad(self.alphas_cumprod[:-1], (1, 0), value=1.0)
        self.sqrt_alphas_cumprod = self.alphas_cumprod.sqrt()
        self.sqrt_one_minus_alphas_cumprod = (1 - self.alphas_cumprod).sqrt()
        self.sqrt_inv_alphas_cumprod = (1 / self.alphas_cumprod).sqrt()
        self.sqrt_inv_alphas_cumprod_minus_one = (1 / self.alphas_cumprod - 1).sqrt()
        rest = 1 - self.alphas_cumprod
        self.posterior_mean_x0 = self.betas * self.alphas_cumprod_prev.sqrt() / rest
        self.posterior_mean_x_t = (1 - self.alphas_cumprod_prev) * self.alphas.sqrt() / rest

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        signal = self.sqrt_alphas_cumprod[t].reshape(-1, 1)
        return signal * x0 + self.sqrt_one_minus_alphas_cumprod[t].reshape(-1, 1) * noise

    def step(self, eps: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """x_{t-1} from x_t, for one time t (0-d) of the whole batch."""
        x0 = self.sqrt_inv_alphas_cumprod[t].reshape(-1, 1) * x
        x0 = x0 - self.sqrt_inv_alphas_cumprod_minus_one[t].reshape(-1, 1) * eps
        mean = self.posterior_mean_x0[t].reshape(-1, 1) * x0 + self.posterior_mean_x_t[t].reshape(-1, 1) * x
        if t == 0:
            return mean
        variance = self.betas[t] * (1 - self.alphas_cumprod_prev[t]) / (1 - self.alphas_cumprod[t])
        return mean + variance.clip(1e-20) ** 0.5 * torch.randn_like(eps)


def train(net: Network, points: Tensor, batch_size: int, bar_file: TextIO) -> Iterator[float]:
    """Endless training of `net` on `points`; yields the loss after each step."""
    tables = NoiseTables()
    loader = DataLoader(TensorDataset(points), batch_size=batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    epoch = 0
    while True:
        net.train()
        bar = tqdm(total=len(loader), file=bar_file)
        bar.set_description(f"Epoch {epoch}")
        for step, (batch,) in enumerate(loader):
            noise = torch.randn(batch.shape)
            t = torch.randint(0, T, (batch.shape[0],)).long()
            loss = F.mse_loss(net(tables.add_noise(batch, noise, t), t), noise)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            bar.update(1)
            logs = {"loss": loss.detach().item(), "step": step}
            losses.append(loss.detach().item())
            bar.set_postfix(**logs)
            yield losses[-1]
        bar.close()
        epoch += 1


def sample(net: Network, n: int) -> Tensor:
    """n points (n, 2) by T steps of DDPM with the posterior's variance."""
    tables = NoiseTables()
    net.eval()
    x = torch.randn(n, 2)
    for time in reversed(range(T)):
        t = torch.full((n,), time, dtype=torch.long)
        with torch.no_grad():
            eps = net(x, t)
        x = tables.step(eps, t[0], x)
    return x
