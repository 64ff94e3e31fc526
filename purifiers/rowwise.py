"""Solve each row of a batch with its own steps; network calls of all rows are gathered into one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_RightHandSide = Callable[["Tensor", "Tensor"], "Tensor"]  # (level [B], u [B,...]) -> du [B,...]


def solve_rows(f: _RightHandSide, u: Tensor, solve: Callable[[_RightHandSide, Tensor], Tensor]) -> Tensor:
    """Return `solve(f, u[i])` for every row of `u [B,...]`, each with its own steps.

    An adaptive solver chooses one step size for a whole batch, which makes its rows dependent. Here each row's solver
    runs in a greenlet, which pauses at every call of `f`; `f` is then evaluated once for all waiting rows, at each
    row's own level. Finished rows leave the batch.
    """
    import torch
    from greenlet import getcurrent, greenlet

    driver = getcurrent()

    def pausing_f(level, row):
        return driver.switch((level, row))

    solvers = [greenlet(solve) for _ in range(len(u))]
    replies = [(solver, solver.switch(pausing_f, u[i : i + 1])) for i, solver in enumerate(solvers)]
    done = {}
    while replies:
        done.update({solver: reply for solver, reply in replies if solver.dead})
        waiting = [(solver, reply) for solver, reply in replies if not solver.dead]
        if not waiting:
            break
        levels = torch.stack([level for _, (level, _) in waiting]).to(u.dtype)
        slopes = f(levels, torch.cat([row for _, (_, row) in waiting]))
        replies = [(solver, solver.switch(slope[None])) for (solver, _), slope in zip(waiting, slopes, strict=True)]
    return torch.cat([done[solver] for solver in solvers])
