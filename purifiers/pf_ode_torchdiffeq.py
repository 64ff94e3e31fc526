"""The probability-flow ODE through any solver of torchdiffeq, fixed or adaptive."""

from __future__ import annotations

import math
from dataclasses import dataclass

from purifiers.base import Purifier, at_least, positive
from purifiers.rowwise import solve_rows

_FIXED = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}  # solver -> evaluations per step
_MULTISTEP = ("implicit_adams",)  # explicit_adams diverges: its error grows with the steps
_ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")


@dataclass(frozen=True)
class TorchdiffeqPFODE(Purifier):
    """`du/dt = (u - D(u, t)) / t` from `t = 2 sigma` to `t_end`, then one Euler step to 0.

    Fixed solvers take `steps` steps on the network's own grid. The others solve `du/dlambda = u - D(u, t)` in
    `lambda = ln t`, which is bounded near 0: in `t`, the multistep solvers of torchdiffeq would need even steps, and
    adaptive ones would step to negative levels. They also solve each image on its own: with a step size or a stopping
    rule shared by a batch, an image's result would depend on the other images, and the certificate would be unsound.

    Parameters:
        solver: a name of torchdiffeq, one of `_FIXED`, `_MULTISTEP` or `_ADAPTIVE` above.
        steps: steps of a fixed or multistep solver (adaptive solvers ignore it).
        rtol, atol: tolerances in units of `u` (fixed solvers ignore them).
        t_end: the level at which the solver stops; one evaluation of the denoiser does the rest.
    """

    name = "pf-ode-torchdiffeq"
    family = "pf-ode"
    source = "Song et al. 2021, eq. 13; Chen 2018, torchdiffeq"
    networks = ("edm",)

    solver: str = "midpoint"
    steps: int = 2
    rtol: float = 1e-2
    atol: float = 1e-2
    t_end: float = 0.1

    def __post_init__(self):
        at_least(1, steps=self.steps)
        positive(rtol=self.rtol, atol=self.atol, t_end=self.t_end)
        solvers = (*_FIXED, *_MULTISTEP, *_ADAPTIVE)
        if self.solver not in solvers:
            raise ValueError(f"solver must be one of {', '.join(solvers)}; got {self.solver!r}")

    def nfe(self):
        return _FIXED[self.solver] * self.steps + 1 if self.solver in _FIXED else None

    def restore(self, u, t, networks, rng):
        import torch
        from torchdiffeq import odeint

        denoise = networks["edm"]
        t_end = max(self.t_end, denoise.t_min)
        if t <= t_end:
            return denoise(u, t)
        if self.solver in _FIXED:
            levels = torch.tensor(denoise.levels(t, self.steps + 1, t_end), dtype=u.dtype, device=u.device)
            u = odeint(lambda t, u: (u - denoise(u, t)) / t, u, levels, method=self.solver)[-1]
        else:
            steps = 1 if self.solver in _ADAPTIVE else self.steps
            grid = torch.linspace(math.log(t), math.log(t_end), steps + 1, dtype=u.dtype, device=u.device)
            options = {"rtol": self.rtol, "atol": self.atol, "method": self.solver}
            u = solve_rows(
                lambda log_t, u: u - denoise(u, log_t.exp()), u, lambda f, u: odeint(f, u, grid, **options)[-1]
            )
        return denoise(u, t_end)
