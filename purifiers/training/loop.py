"""The one training loop: seeded batches, a schedule, gradient clipping, an exponential moving average, resumable."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[nn.Module, nn.Module, Tensor, Generator, float], Tensor]
"""`(model, ema, batch u0, generator, progress)` -> scalar; progress is the completed share of the training, 0 to 1."""
Validate = Callable[[Any], Mapping[str, float]]  # the averaged network -> figures

_REPORTS = 100  # points of a loss curve
_VALIDATIONS = 20  # points of a validation curve
_SPARSE = 20  # least number of steps between them: short trials would mostly validate otherwise
_FUSED = ("Adam", "AdamW")  # optimisers that update all parameters by one kernel of a GPU


class Keeper(Protocol):
    """Saves the state of a training, decides when to save, and limits its time; implemented in `bench.training`."""

    def load(self, device: str | torch.device = "cpu") -> dict[str, Any] | None: ...
    def due(self) -> bool: ...
    def left(self) -> float: ...
    def spent(self) -> float: ...
    def save(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training.

    Attributes:
        steps: total number.
        batch: images of a step.
        lr: peak learning rate.
        ema: decay of the moving average.
        warmup: steps of linear warm-up.
        plateau: steps at the peak, followed by a decay with the inverse root of the step (Karras et al. 2024, eq. 67),
            so that a longer training continues a shorter one; 0: a cosine to 0 at the end of the training.
        flip: mirror half of the images.
        optimizer: of `torch.optim`.
    """

    steps: int
    batch: int
    lr: float
    ema: float
    warmup: int = 0
    plateau: int = 0
    flip: bool = False
    optimizer: str = "Adam"


@dataclass(frozen=True)
class _Trained(Generic[Model]):
    """The averaged network, the cost of its training, and its curves: `(step, loss)` and `(step, figures)`.

    Attributes:
        progress: the share of the schedule that was done, 1 for a training that ended by itself or by its time limit.
    """

    model: Model
    steps: int
    progress: float
    seconds: float
    losses: list[tuple[int, float]]
    validations: list[tuple[int, dict[str, float]]]


class _Points:
    """The steps at which a curve gets a point: about `count` of them, by steps or by a time limit that ends earlier.

    Parameters:
        steps: of the whole training.
        sparse: least number of steps between two points.
    """

    def __init__(self, count: int, steps: int, sparse: int = 1):
        self.count, self.every, self.sparse = count, max(sparse, steps // count), sparse
        self.step, self.spent = 0, 0.0  # at the latest point

    def due(self, step: int, spent: float) -> bool:
        """Whether a step gets a point, `spent` being the share of the time limit that has passed."""
        late = spent - self.spent >= 1 / self.count and step - self.step >= self.sparse
        if not late and step % self.every:
            return False
        self.step, self.spent = step, spent
        return True


def fit(
    model: Model,
    loss: Loss,
    images: Tensor,
    schedule: Schedule,
    seed: int,
    autocast: bool = False,
    report: Callable[[str], None] | None = None,
    validate: Validate | None = None,
    keeper: Keeper | None = None,
    earlier: int = 0,
    done: float = 0.0,
) -> _Trained[Model]:
    """Minimise `loss` over batches of `images [N,C,H,W]`, in [0,1]; batches reach the loss in [-1,1].

    Without a time limit the same seed on the same machine gives the same weights, in one go or in several. Progress is
    the completed share of the steps, or of the time where the limit ends the training first: stages of a loss and a
    cosine learning rate reach their end in both cases.

    Between two points of a curve nothing is read from the device and nothing is copied to it, so a GPU never waits for
    the host.

    Parameters:
        autocast: run the forward pass in bfloat16.
        report: called with a line of progress for every point of the loss curve.
        validate: called about `_VALIDATIONS` times; returns figures of the averaged network.
        keeper: saves the state of the training; a saved state is continued.
        earlier: steps of the model in an earlier training; a learning rate with a plateau continues from there.
        done: share of the loss's stages that the earlier training completed; they continue from there.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    device = images.device
    generator = Generator(device).manual_seed(seed)
    optimizer = _optimizer(model, schedule, device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    state: dict[str, Any] = {"step": 0, "progress": 0.0, "seconds": 0.0, "recent": 0.0, "losses": [], "validations": []}
    parts: dict[str, Any] = {"model": model, "ema": ema, "optimizer": optimizer}
    if keeper and (kept := keeper.load(device)):
        for name, part in parts.items():
            part.load_state_dict(kept.pop(name))
        generator.set_state(kept.pop("generator").cpu())
        state |= kept
    recent = torch.tensor(state["recent"], device=device)
    losses, validations = state["losses"], state["validations"]
    first, begun, before = state["step"], state["progress"], state["seconds"]
    reports, checks = _Points(_REPORTS, schedule.steps), _Points(_VALIDATIONS, schedule.steps, _SPARSE)
    started = time.perf_counter()

    def seconds() -> float:
        return before + time.perf_counter() - started

    def share() -> float:
        """Progress; the time limit is for what was left when this process began."""
        return min(1.0, max(step / schedule.steps, begun + (1 - begun) * (keeper.spent() if keeper else 0.0)))

    def keep() -> None:
        if keeper:
            state.update(step=step, progress=share(), seconds=seconds(), recent=float(recent))
            saved = {name: part.state_dict() for name, part in parts.items()}
            keeper.save({**saved, **state, "generator": generator.get_state()})

    model.train()
    step = first
    while step < schedule.steps and not (keeper and keeper.left() <= 0):
        progress = share()
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * _learning_rate_factor(step, schedule, progress, earlier)
        u0 = _batch(images, schedule, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            value = loss(model, ema, u0, generator, done + (1 - done) * progress)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _update_average(ema, model, min(schedule.ema, (1 + step) / (10 + step)))
        recent += value.detach()
        step += 1
        spent = keeper.spent() if keeper else 0.0
        if reports.due(step, spent) or step == schedule.steps:
            mean = float(recent) / (step - (losses[-1][0] if losses else 0))
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss became {mean} by step {step}; lower the learning rate")
            losses.append((step, round(mean, 6)))
            recent.zero_()
            if report:
                pace = (step - first) / (seconds() - before)
                left = max(0.0, min((schedule.steps - step) / pace, keeper.left() if keeper else math.inf)) / 60
                speed = f"{pace * schedule.batch:.0f} images/s, {left:.0f} min left"
                report(f"step {step:,}/{schedule.steps:,}, loss {mean:.5f}, {speed}")
        if validate and checks.due(step, spent) and step < schedule.steps:
            validations.append((step, dict(validate(ema))))
        if keeper and keeper.due():
            keep()
    if step > first:
        keep()
    return _Trained(ema, step, share() if step > first else begun, seconds(), losses, validations)


def _optimizer(model: nn.Module, schedule: Schedule, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of a schedule; on a GPU Adam's update of all parameters is one kernel."""
    fused = {"fused": True} if device.type == "cuda" and schedule.optimizer in _FUSED else {}
    return getattr(torch.optim, schedule.optimizer)(model.parameters(), lr=schedule.lr, **fused)


def _batch(images: Tensor, schedule: Schedule, generator: Generator) -> Tensor:
    """Images drawn with replacement, `[B,C,H,W]` in [-1,1], half of them mirrored if the schedule says so."""
    u0 = 2 * images[torch.randint(len(images), (schedule.batch,), generator=generator, device=images.device)] - 1
    if not schedule.flip:
        return u0
    mirrored = torch.rand(len(u0), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored, u0.flip(-1), u0)


def _learning_rate_factor(step: int, schedule: Schedule, progress: float, earlier: int = 0) -> float:
    """Linear warm-up, then a cosine to 0, or a plateau and an inverse root of these steps and `earlier` ones."""
    warm = min(1.0, (step + 1) / max(1, schedule.warmup))
    if schedule.plateau:
        return warm / math.sqrt(max(1.0, (earlier + step) / schedule.plateau))
    return warm * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def _update_average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """`ema <- decay ema + (1 - decay) model`, in place; one kernel of a GPU for all parameters."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
