"""Train one model in several processes: losses are divided by the step's total number of texts, gradients summed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The processes that train together, possibly just one; `rank` is this process's number, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True in the process that writes files and output."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a pass: every `size`-th row, to balance lengths. It may be empty."""
        return rows[self.rank :: self.size]

    def seed_torch(self, *moment: int) -> None:
        """Seed torch by process and moment (such as seed and step) in a group of several, so dropout masks differ."""
        if self.size > 1:
            torch.manual_seed(int(np.random.SeedSequence([*moment, self.rank]).generate_state(1, np.uint32)[0]))

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum all processes' gradients in place; a missing gradient counts as zero."""
        if self.size == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of all processes' arrays, which have one shape, on the CPU."""
        if self.size == 1:
            return values
        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        tensor: Tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """Join the process group that torchrun set up, or yield a group of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
