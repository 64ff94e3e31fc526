"""The probability-flow ODE through any solver of torchdiffeq, fixed or adaptive."""

from __future__ import annotations

import math
from dataclasses import dataclass

from purifiers.base import Purifier, at_least
from purifiers.rowwise import solve_rows

FIXED = {  # solver -> evaluations per step
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "explicit_adams": None,
    "implicit_adams": None,
}
ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")


@dataclass(frozen=True)
class TorchdiffeqPFODE(Purifier):
    """`du/dlambda = u - D(u, e^lambda)` in `lambda = ln t`, from `ln 2 sigma` to `ln t_min`, then one Euler step to 0.

    In `ln t` the right-hand side stays bounded near 0, where adaptive solvers in `t` overstep into negative levels.
    Fixed solvers take `steps` even steps in `ln t`. Adaptive solvers control each image's error on its own: a step
    size shared by a batch would make an image's result depend on its neighbours, and the certificate unsound.

    Parameters:
        solver: a name of torchdiffeq, one of FIXED or ADAPTIVE above.
        steps: steps of a fixed solver (adaptive solvers ignore it).
        rtol, atol: tolerances of an adaptive solver, in units of `u` (fixed solvers ignore them).
        t_end: the level at which the solver stops; the denoiser takes the rest in one evaluation.
    """

    name = "pf-ode-torchdiffeq"
    family = "pf-ode"
    source = "Song et al. 2021, eq. 13; Chen 2018, torchdiffeq"
    networks = ("edm",)

    solver: str = "midpoint"
    steps: int = 3
    rtol: float = 1e-2
    atol: float = 1e-2
    t_end: float = 0.05

    def __post_init__(self):
        at_least(1, steps=self.steps)
        if self.solver not in (*FIXED, *ADAPTIVE):
            raise ValueError(f"solver must be one of {', '.join((*FIXED, *ADAPTIVE))}; got {self.solver!r}")
        for name in ("rtol", "atol", "t_end"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def nfe(self):
        per_step = FIXED.get(self.solver)
        return per_step * self.steps + 1 if per_step else None

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        t_end = max(self.t_end, denoise.t_min)
        if t > t_end:
            span = (math.log(t), math.log(t_end))
            u = self.integrate(lambda level, u: u - denoise(u, level.exp()), u, span)
        return denoise(u, min(t, t_end))

    def integrate(self, f, u, span):
        """Carry `u [B,...]` over `span` of `lambda` by `du/dlambda = f(lambda, u)`."""
        import torch
        from torchdiffeq import odeint

        start, end = span
        if self.solver in FIXED:
            grid = torch.linspace(start, end, self.steps + 1, dtype=u.dtype, device=u.device)
            return odeint(f, u, grid, method=self.solver)[-1]
        ends = torch.tensor(span, dtype=torch.float64, device=u.device)
        tolerances = {"rtol": self.rtol, "atol": self.atol, "method": self.solver}
        return solve_rows(f, u, lambda f, u: odeint(f, u, ends, **tolerances)[-1])
