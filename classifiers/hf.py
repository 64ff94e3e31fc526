"""Image classifiers of the Hugging Face hub, through transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from classifiers.base import OPTION, ClassifierError
from classifiers.hub import model_files, require
from classifiers.preprocessing import ImageClassifier, Preprocessing, from_transformers, read_json

WANTED = (("model.safetensors", "pytorch_model.bin"), ("config.json",), ("preprocessor_config.json",))
SIZES = {  # bytes of the weights: four for each parameter
    "aaraki/vit-base-patch16-224-in21k-finetuned-cifar10": 4 * 85_806_346,
    "google/vit-base-patch16-224": 4 * 86_567_656,
}


@dataclass(frozen=True)
class HuggingFace(ImageClassifier):
    """Any model that transformers loads for image classification; no code of the repository is run.

    Parameters:
        path: a folder that `save_pretrained` wrote, or a hub id.
        pixels: as for all; a model of the hub expects the pixels of image files, so they are rounded.
    """

    name = "hf"
    source = "Hugging Face transformers"

    path: str
    pixels: Literal["exact", "round", "truncate"] = field(default="round", kw_only=True, metadata=OPTION)

    def files(self, download: bool = True) -> tuple[Path, ...]:
        require("transformers")
        return model_files(self.path, WANTED, download, SIZES.get(self.path))

    def configured(self) -> Preprocessing:
        file = self.files()[2]
        settings = read_json(file, "restore it from the model's repository")
        try:
            return from_transformers(settings)
        except ClassifierError as error:
            raise ClassifierError(f"{file}: {error}") from error

    def network(self):
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging

        from classifiers.nets.logits import LogitsOf

        logging.disable_progress_bar()  # it would break into the sweep's own
        folder = self.files()[0].parent
        try:
            model, report = AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # a damaged file, an unknown architecture: each library has errors of its own
            problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise ClassifierError(f"{folder} cannot be loaded by transformers ({problem})") from error
        wrong = {kind: sorted(map(str, report[kind])) for kind in ("missing_keys", "mismatched_keys") if report[kind]}
        if wrong:
            raise ClassifierError(f"the weights in {folder} are not of the model in its config.json: {wrong}")
        return LogitsOf(model.float())
