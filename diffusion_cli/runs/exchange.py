"""Sums of the gradients of several processes, and with them of a few words that they say to each other: in memory that those of
one host have in common, which is quicker than its own network, or over a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from diffusion_cli.runs.common_memory import SharedSum, Watch, shared_sum
from diffusion_cli.runs.contribution import Contribution, added


class Sums:
    """Adds the contributions of all processes, as many of each. All processes must call it.

    rank, size: of this process, and how many there are.
    exact: add in the order of the ranks, with the bits of one process; else by an all_reduce, whose rounding depends on the
        number of processes, and in a third of the memory.
    shared: whether the processes may have memory in common; false from the first call on that finds none.
    watch: asked while the others are waited for: why they will not come, or None.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        exact: bool = True,
        shared: bool = True,
        watch: Watch = lambda: None,
    ) -> None:
        self.rank, self.size, self.exact, self.shared, self.watch = rank, size, exact, shared, watch
        self._memory: SharedSum | None = None

    def sent(self, contributions: Iterable[Contribution]) -> Sequence[Tensor]:
        """The vectors of this process that take part in the sum: one for each contribution, written into the common memory where
        there is one; for an all_reduce their own sum alone."""
        if not self.exact:
            return [added(contribution.written() for contribution in contributions)]
        if self.shared and self._memory is not None:
            return self._memory.filled(contributions)
        return [contribution.written() for contribution in contributions]

    def __call__(self, given: Sequence[Tensor], words: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the sum of the gradients of all processes into `total` (n,), given what `sent` gives in each of them; returns
        the sums of their losses (s,) and of their words (w,)."""
        if self.exact and self.shared and given[0].device.type == "cpu":
            if self._memory is None or not self._memory.fits(given, words):
                self._memory = shared_sum(given, words, self.rank, self.size, self.watch)
                self.shared = self._memory is not None
            if self._memory is not None:
                return self._memory(given, words, total)
        n, m = len(total), len(given[0])
        if given[0].device.type != "cpu":
            # by themselves, so that nobody waits for the device to read them
            dist.all_reduce(words)
            whole = self._over_network(given)
        else:
            whole = self._over_network([torch.cat((given[0], words)), *given[1:]])
            words = whole[m:]
        total.copy_(whole[:n])
        return whole[n:m], words

    def _over_network(self, given: Sequence[Tensor]) -> Tensor:
        """The sum of vectors, of which the first may be the longest.

        In order each process adds a piece of all vectors, so that as much is sent as by an all_reduce of their sum.
        """
        if not self.exact:
            dist.all_reduce(given[0])
            return given[0]
        k, m = len(given), len(given[0])
        width = -(-m // self.size)
        rows = given[0].new_zeros(k, self.size * width)
        for row, vector in zip(rows, given, strict=True):
            row[: len(vector)] = vector
        sent = rows.view(k, self.size, width).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        total = rows.new_empty(self.size * width)
        dist.all_to_all_single(received, sent)
        mine = added(received.view(self.size * k, width))
        dist.all_gather([*total.chunk(self.size)], mine)
        return total[:m]
