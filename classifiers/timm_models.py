"""Image classifiers of timm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classifiers.base import ClassifierError
from classifiers.hub import model_files, require
from classifiers.image_models import HubModel
from classifiers.preprocessing import from_timm

_WANTED = (("model.safetensors", "pytorch_model.bin"), ("config.json",))


@dataclass(frozen=True)
class Timm(HubModel):
    """Any model of timm, by name, by hub id, or from a folder.

    Parameters:
        path: a name in timm such as `resnet18.a1_in1k` (`timm/resnet18.a1_in1k` on the hub), another hub id, or a
            folder written by `timm.models.save_for_hf`.
    """

    name = "timm"
    source = "Wightman, PyTorch Image Models"

    def files(self, download: bool = True) -> tuple[Path, ...]:
        require("timm")
        plain = "/" not in self.path and not Path(self.path).is_dir()
        return model_files(f"timm/{self.path}" if plain else self.path, _WANTED, download)

    def understood(self, settings):
        return from_timm(settings.get("pretrained_cfg", settings))

    def network(self):
        import timm

        from classifiers.nets.resnet import read_state

        settings, weights = self.settings(), self.files()[0]
        try:
            extra = {"num_classes": settings.get("num_classes", 1000), **settings.get("model_args", {})}
            model = timm.create_model(settings["architecture"], pretrained=False, **extra)
            model.load_state_dict(read_state(weights))
        except (KeyError, RuntimeError, TypeError) as error:
            raise ClassifierError(
                f"{weights} is not the model of the config.json beside it ({type(error).__name__}: {error})"
            ) from error
        return model.float()
