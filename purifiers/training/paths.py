"""Distillation of whole paths of a denoiser's probability-flow ODE into a consistency model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from purifiers.nets.denoisers import LevelledDenoiser, karras_levels
from purifiers.training.loop import Loss
from purifiers.training.losses import heun_step, l2

_ROWS = 250  # paths that are followed together and share their levels


@dataclass(frozen=True)
class Paths:
    """Points of paths of the ODE and the ends of these; images in [-1,1], in half precision to save memory.

    Attributes:
        points: `[N,P,C,H,W]`, noisy images along each path.
        levels: `[N,P]`, their noise levels.
        ends: `[N,C,H,W]`.
    """

    points: Tensor
    levels: Tensor
    ends: Tensor


@torch.no_grad()
def follow_paths(
    teacher: LevelledDenoiser,
    images: Tensor,
    count: int,
    steps: int,
    t_max: float,
    seed: int,
    report: Callable[[str], None] | None = None,
) -> Paths:
    """About `count` paths from noisy `images [N,C,H,W]` in [0,1], by Heun's method on the Karras grid.

    A path begins at a level between `t_max / 5` and `t_max`. The points kept are those of its first two thirds of
    steps, where purification happens.

    Parameters:
        steps: of each path, 2 evaluations of the teacher each.
        report: called with a line of progress about ten times, since the paths of a recipe take minutes on a CPU.
    """
    generator = Generator(images.device).manual_seed(seed)
    tops = t_max * (1 + 4 * torch.rand(-(-count // _ROWS), generator=Generator().manual_seed(seed))) / 5
    points, levels, ends = [], [], []
    for group, top in enumerate(tops.tolist()):
        if report and group % -(-len(tops) // 10) == 0:
            report(f"path {group * _ROWS:,}/{len(tops) * _ROWS:,} of the teacher's ODE")
        chosen = torch.randint(len(images), (_ROWS,), generator=generator, device=images.device)
        u = 2 * images[chosen] - 1
        u = u + top * torch.randn(u.shape, generator=generator, device=u.device)
        grid = torch.tensor(karras_levels(top, teacher.t_min, steps + 1), device=u.device)[:, None].expand(-1, _ROWS)
        path = []
        for t, s in pairwise(grid):
            path.append(u.half())
            u = heun_step(teacher, u, t, s)
        kept = 2 * steps // 3
        points.append(torch.stack(path[:kept], 1))
        levels.append(grid[:kept].T)
        ends.append(u.half())
    return Paths(torch.cat(points), torch.cat(levels), torch.cat(ends))


def path_loss(paths: Paths) -> Loss:
    """`E ||f(u_t, t) - u_end||^2 / t` over points of paths, drawn anew for each batch.

    Unlike `distillation_loss`, where a level learns from the next lower one, errors do not add up over the levels
    (Luhman and Luhman 2021, extended to all points of a path).
    """

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        """Of the batch `u0` only the number of rows counts: the images are in the paths."""
        count, points = paths.levels.shape
        row = torch.randint(count, (len(u0),), generator=generator, device=u0.device)
        point = torch.randint(points, (len(u0),), generator=generator, device=u0.device)
        t = paths.levels[row, point]
        return (l2(model(paths.points[row, point].to(u0.dtype), t), paths.ends[row].to(u0.dtype)) / t).mean()

    return loss
