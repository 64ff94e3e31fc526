"""Image classifiers of the Hugging Face hub, through transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classifiers.base import ClassifierError
from classifiers.hub import brief, model_files, require
from classifiers.image_models import HubModel
from classifiers.preprocessing import from_transformers

_WANTED = (("model.safetensors", "pytorch_model.bin"), ("config.json",), ("preprocessor_config.json",))
_SIZES = {  # bytes of the weights: four for each parameter
    "aaraki/vit-base-patch16-224-in21k-finetuned-cifar10": 4 * 85_806_346,
    "google/vit-base-patch16-224": 4 * 86_567_656,
}
_PROBLEMS = ("missing_keys", "mismatched_keys", "unexpected_keys")  # that transformers reports
_POOLER = ".pooler."  # in names of parameters that many models are published with and that the logits do not use


@dataclass(frozen=True)
class HuggingFace(HubModel):
    """Any model that transformers loads for image classification; no code of the repository is run.

    Parameters:
        path: a folder that `save_pretrained` wrote, or a hub id.
    """

    name = "hf"
    source = "Hugging Face transformers"

    def files(self, download: bool = True) -> tuple[Path, ...]:
        require("transformers")
        return model_files(self.path, _WANTED, download, _SIZES.get(self.path))

    def understood(self, settings):
        return from_transformers(settings)

    def network(self):
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging

        from classifiers.nets.pipeline import LogitsOf
        from classifiers.nets.probe import check_processor

        logging.disable_progress_bar()  # it would interrupt the progress bar of the sweep
        folder = self.files()[0].parent
        try:
            model, report = AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # a damaged file, an unknown architecture: each library raises its own errors
            raise ClassifierError(f"{folder} cannot be loaded by transformers ({brief(error)})") from error
        reported = {kind: sorted(key for key in map(str, report[kind]) if _POOLER not in key) for kind in _PROBLEMS}
        if wrong := {kind: keys for kind, keys in reported.items() if keys}:
            raise ClassifierError(f"the weights in {folder} are not of the model in its config.json: {wrong}")
        check_processor(folder, self.configured())
        return LogitsOf(model.float())
