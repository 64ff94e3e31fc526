"""Zero-shot classification by CLIP, through transformers."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from classifiers.hub import model_files, require
from classifiers.image_models import HubModel
from classifiers.preprocessing import from_transformers

_WANTED = (
    ("model.safetensors", "pytorch_model.bin"),
    ("config.json",),
    ("tokenizer.json",),
    ("preprocessor_config.json",),
)
_SIZES = {  # bytes of the weights: four for each parameter
    "openai/clip-vit-base-patch32": 4 * 151_277_313,
    "openai/clip-vit-large-patch14": 4 * 427_616_513,
}
CLASSES = {  # the class names of data sets, in their order
    "cifar10": "airplane|automobile|bird|cat|deer|dog|frog|horse|ship|truck",
    "mnist5k": "0|1|2|3|4|5|6|7|8|9",
}


@dataclass(frozen=True)
class CLIP(HubModel):
    """The class whose description is nearest to the image: cosine similarities, times CLIP's scale, are the logits.

    The embedding of a class is the mean of those of its prompts, each of length 1, at length 1 (Radford et al. 2021,
    section 3.1.4). Texts are embedded once; a call evaluates the image tower alone.

    Parameters:
        path: a folder that `save_pretrained` of model and processor wrote, or a hub id.
        names: a key of `CLASSES`, or the names of the classes in the order of the data set's, separated by `|`.
        prompts: texts in which `{}` stands for the name of a class, separated by `|`.
    """

    name = "clip"
    source = "Radford et al. 2021; Hugging Face transformers"

    names: str = ""
    prompts: str = "a photo of a {}."

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.described())) < 2:
            raise ValueError(
                f"names must be one of {', '.join(CLASSES)}, or two or more classes in the order of the data set's, "
                f"separated by |; got {self.names!r}"
            )
        if len(set(self.described())) < len(self.described()):
            raise ValueError(f"names has a class twice: {self.names}")
        for prompt in self.prompts.split("|"):
            fields = [field for _, field, _, _ in string.Formatter().parse(prompt) if field is not None]
            if fields != [""]:
                raise ValueError(f"each of prompts must have one {{}} for the name of the class; got {prompt!r}")

    def described(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return [name.strip() for name in CLASSES.get(self.names, self.names).split("|")]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes that a data set must have, in their order; None for given names, which may be other words."""
        return tuple(self.described()) if self.names in CLASSES else None

    def files(self, download: bool = True) -> tuple[Path, ...]:
        require("transformers")
        return model_files(self.path, _WANTED, download, _SIZES.get(self.path))

    def understood(self, settings):
        return from_transformers(settings)

    def network(self):
        from classifiers.nets.probe import check_processor
        from classifiers.nets.zero_shot import load_clip

        weights, _, tokenizer, _ = self.files()
        texts = [[prompt.format(name) for prompt in self.prompts.split("|")] for name in self.described()]
        network = load_clip(weights.parent, tokenizer, texts)
        check_processor(weights.parent, self.configured())
        return network
