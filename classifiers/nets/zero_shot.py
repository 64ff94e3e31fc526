"""CLIP's image tower, and the embeddings of classes that its logits compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.base import ClassifierError
from classifiers.hub import brief

_PROBLEMS = ("missing_keys", "mismatched_keys", "unexpected_keys")  # that transformers reports
_CONSTANT = "position_ids"  # ends names of entries of old checkpoints: 0, 1, 2, ...


class ZeroShot(nn.Module):
    """Normalised images `[B,C,H,W]` -> logits `[B,K]`.

    Parameters:
        model: a CLIPModel.
        classes: embeddings `[K,D]` of length 1.
    """

    classes: Tensor

    def __init__(self, model: Any, classes: Tensor):
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection
        self.register_buffer("classes", model.logit_scale.exp() * classes)

    def forward(self, x: Tensor) -> Tensor:
        embedding = self.projection(self.vision(pixel_values=x).pooler_output)
        return F.normalize(embedding, dim=-1) @ self.classes.T


def load_clip(folder: Path, tokenizer_file: Path, texts: Sequence[Sequence[str]]) -> ZeroShot:
    """The zero-shot classifier of a model of transformers, in float32 on the CPU.

    Parameters:
        folder: of `config.json` and the weights.
        texts: for each class its descriptions.

    Raises:
        ClassifierError: a file is damaged, of another model, or a text is too long.
    """
    from transformers import CLIPModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    make: Any = CLIPModel  # whose results transformers does not declare
    logging.disable_progress_bar()  # it would interrupt the progress bar of the sweep
    try:
        model, report = make.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    except Exception as error:  # a damaged file, another architecture: each library raises its own errors
        raise ClassifierError(f"{folder} cannot be loaded by transformers as a CLIPModel ({brief(error)})") from error
    reported = {kind: sorted(k for k in map(str, report[kind]) if not k.endswith(_CONSTANT)) for kind in _PROBLEMS}
    if wrong := {kind: keys for kind, keys in reported.items() if keys}:
        raise ClassifierError(f"the weights in {folder} are not of the model in its config.json: {wrong}")
    model = model.float().eval().requires_grad_(False)
    return ZeroShot(model, torch.cat([_class_embedding(model, tokenizer, described) for described in texts]))


@torch.no_grad()
def _class_embedding(model: Any, tokenizer: Any, described: Sequence[str]) -> Tensor:
    """The mean embedding `[1,D]`, of length 1, of the descriptions of a class; each text alone, without padding."""
    longest, vocabulary = model.config.text_config.max_position_embeddings, model.config.text_config.vocab_size
    embeddings = []
    for text in described:
        ids = tokenizer(text)["input_ids"]
        if len(ids) > longest:
            raise ClassifierError(f"{text!r} has {len(ids)} tokens, the model takes at most {longest}: shorten it")
        if max(ids) >= vocabulary:
            raise ClassifierError("tokenizer.json is of another model: it has tokens that the model does not know")
        pooled = model.text_model(input_ids=torch.tensor([ids])).pooler_output
        embeddings.append(F.normalize(model.text_projection(pooled), dim=-1))
    return F.normalize(torch.stack(embeddings).mean(0), dim=-1)
