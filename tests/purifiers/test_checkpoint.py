"""A training that is interrupted: it goes on where it was, to the same weights."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from bench import data
from bench.training.checkpoint import Checkpoint, CheckpointError
from classifiers.training import fit as classifier_training
from classifiers.training.fit import train_classifier
from purifiers.nets.hub.cards import Card
from purifiers.nets.hub.files import build
from purifiers.training import loop
from purifiers.training.loop import Schedule, _learning_rate_factor, fit
from purifiers.training.losses import edm_loss

RECIPE = {
    "seed": 0, "epochs": 4, "batch": 50, "lr": 4e-3, "weight_decay": 0.01, "label_smoothing": 0.0,
    "rotation": 5, "scale": 0.1, "shift": 2, "flip": False, "architecture": {"widths": [4, 8], "depths": [1, 2]},
}  # fmt: skip


class Interrupted(Checkpoint):
    """A checkpoint that is written at one step, after which the process is as good as dead."""

    def __init__(self, path, recipe, at):
        super().__init__(path, recipe)
        self.steps_left = at

    def due(self):
        self.steps_left -= 1
        return self.steps_left == 0

    def left(self):
        return float(self.steps_left)


@pytest.fixture(scope="module")
def digits():
    part = data.load("mnist5k", "train")
    return torch.from_numpy(part.images[:200]), torch.from_numpy(part.labels[:200])


def small():
    torch.manual_seed(0)
    architecture = {"channels": 1, "image_size": 28, "widths": [8, 16], "groups": 4}
    return build(Card("edm", architecture, {"t_min": 0.002, "t_max": 6.0}))


def flat(model):
    return torch.cat([p.flatten().float() for p in model.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["Adam", "RAdam"])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_resumed_training_equals_an_undisturbed_one(digits, tmp_path, monkeypatch, optimizer, at):
    monkeypatch.setattr(loop, "_SPARSE", 3)
    schedule = Schedule(8, 16, 3e-3, 0.9, warmup=2, flip=True, optimizer=optimizer)

    def train(keeper):
        loss = edm_loss(-0.5, 1.1, 0.002, 6.0)
        return fit(small(), loss, digits[0], schedule, 3, validate=lambda m: {"x": 1.0}, keeper=keeper)

    path, recipe = tmp_path / "a.pt", {"lr": 3e-3}
    once = train(None)
    first = train(Interrupted(path, recipe, at))
    assert first.steps == at
    spent = Checkpoint(path, recipe).load()["seconds"]
    again = train(Checkpoint(path, recipe))
    assert again.steps == once.steps == 8
    assert torch.equal(flat(again.model), flat(once.model))
    assert again.losses == once.losses
    assert again.validations == once.validations == [(3, {"x": 1.0}), (6, {"x": 1.0})]
    assert again.seconds > spent > 0


def test_a_training_that_is_done_is_not_repeated(digits, tmp_path):
    schedule = Schedule(3, 16, 3e-3, 0.9)
    keeper = Checkpoint(tmp_path / "a.pt", {})
    first = fit(small(), edm_loss(-0.5, 1.1, 0.002, 6.0), digits[0], schedule, 0, keeper=keeper)

    def never(*_):
        raise AssertionError("trained again")

    again = fit(small(), never, digits[0], schedule, 0, keeper=keeper)
    assert torch.equal(flat(first.model), flat(again.model))


def test_a_longer_training_continues_a_shorter_one_where_the_rate_does_not_know_its_end(digits, tmp_path):
    def train(steps, keeper=None):
        schedule = Schedule(steps, 16, 3e-3, 0.9, plateau=2)
        return fit(small(), edm_loss(-0.5, 1.1, 0.002, 6.0), digits[0], schedule, 0, keeper=keeper)

    keeper = Checkpoint(tmp_path / "a.pt", {})
    train(3, keeper)
    assert torch.equal(flat(train(6, keeper).model), flat(train(6).model))


def test_the_rate_falls_with_the_inverse_root_after_its_plateau():
    schedule = Schedule(100, 1, 1.0, 0.9, warmup=4, plateau=10)
    assert _learning_rate_factor(0, schedule, 0.0) == 0.25
    assert _learning_rate_factor(10, schedule, 0.0) == 1
    assert _learning_rate_factor(40, schedule, 0.0) == pytest.approx(0.5)
    assert _learning_rate_factor(30, schedule, 0.0, earlier=10) == pytest.approx(0.5)
    assert _learning_rate_factor(0, schedule, 0.0, earlier=40) == pytest.approx(0.25 * 0.5)


def test_a_resumed_classifier_equals_an_undisturbed_one(digits, tmp_path):
    class OneEpoch(Checkpoint):
        seen = 0

        def save(self, state):
            super().save(state)
            self.seen += 1

        def left(self):
            return 2.0 - self.seen

    once, _, record = train_classifier(RECIPE, *digits, 10, validate=lambda m: {"a": 0.0})
    path = tmp_path / "c.pt"
    _, _, first = train_classifier(RECIPE, *digits, 10, validate=lambda m: {"a": 0.0}, keeper=OneEpoch(path, RECIPE))
    again, _, second = train_classifier(RECIPE, *digits, 10, keeper=Checkpoint(path, RECIPE))
    assert (first["epochs"], second["epochs"]) == (2, 4)
    assert torch.equal(flat(once), flat(again)) and record["losses"] == second["losses"]


@pytest.mark.parametrize("at", [0, 1, 5, 9, 15])  # of 16 steps, 4 in an epoch
def test_a_classifier_that_is_paused_before_any_step_goes_on_to_the_same_weights(digits, tmp_path, at, monkeypatch):
    lines, ticks = [], []  # every step takes a second of this clock
    monkeypatch.setattr(classifier_training, "time", SimpleNamespace(perf_counter=lambda: len(ticks)))

    def tick(x, generator):
        ticks.append(1)
        return x

    class Paused(Checkpoint):
        asked = -1

        def paused(self):
            self.asked += 1
            return self.asked >= at

        def left(self):
            return 1.0

    once, _, record = train_classifier(RECIPE, *digits, 10)
    _, _, first = train_classifier(RECIPE, *digits, 10, keeper=Paused(tmp_path / "c.pt", RECIPE))
    onward = {"report": lines.append, "keeper": Checkpoint(tmp_path / "c.pt", RECIPE), "transform": tick}
    again, _, second = train_classifier(RECIPE, *digits, 10, **onward)
    assert len(lines) == 4 - at // 4 and all("50 images/s, 0 min left" in line for line in lines)
    assert (first["epochs"], second["epochs"]) == (at // 4, 4)
    assert torch.equal(flat(once), flat(again)) and record["losses"] == second["losses"]


def test_a_checkpoint_of_another_recipe_is_refused_and_says_what_changed(tmp_path):
    Checkpoint(tmp_path / "a.pt", {"lr": 1e-3, "batch": 128}).save({"step": 1})
    with pytest.raises(CheckpointError, match=r"lr was 0.001 and is 0.002.*--fresh"):
        Checkpoint(tmp_path / "a.pt", {"lr": 2e-3, "batch": 128}).load()


@pytest.mark.parametrize(("before", "option"), [(True, "--bf16"), (False, "--no-bf16")])
def test_a_checkpoint_in_another_precision_names_the_option_that_continues_it(tmp_path, before, option):
    """The default depends on the device, so a checkpoint may come from one with another."""
    Checkpoint(tmp_path / "a.pt", {"lr": 1e-3, "autocast": before}).save({"step": 1})
    with pytest.raises(CheckpointError, match=f"autocast was {before}.*`{option}` continues it"):
        Checkpoint(tmp_path / "a.pt", {"lr": 1e-3, "autocast": not before}).load()
    with pytest.raises(CheckpointError) as refused:
        Checkpoint(tmp_path / "a.pt", {"lr": 2e-3, "autocast": not before}).load()
    assert option not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"recipe": "{}"})])
def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt cannot be read as a checkpoint.*delete it"):
        Checkpoint(tmp_path / "a.pt", {}).load()


def test_a_checkpoint_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"recipe": "{}", "state": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError):
        Checkpoint(tmp_path / "a.pt", {}).load()
    assert not (tmp_path / "ran").exists()


def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    keeper = Checkpoint(tmp_path / "a.pt", {})
    keeper.save({"step": 1})

    def torn(content, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        keeper.save({"step": 2})
    assert keeper.load() == {"step": 1}
