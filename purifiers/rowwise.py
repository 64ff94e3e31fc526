"""Solve each row of a batch on its own terms, with the network calls of all rows gathered into one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RightHandSide = Callable[["Tensor", "Tensor"], "Tensor"]  # (level [B], u [B,...]) -> du [B,...]


def solve_rows(f: RightHandSide, u: Tensor, solve: Callable[[RightHandSide, Tensor], Tensor]) -> Tensor:
    """Return `solve(f, u[i])` for every row of `u [B,...]`, each with steps of its own.

    An adaptive solver given a whole batch picks one step size for all of its rows, which couples them. Here each
    row's solver runs in a greenlet that pauses where it needs `f`; `f` is then evaluated once for all rows that
    wait, at each row's own level. Rows that are done drop out, so nothing is evaluated in vain.
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
