"""The classes that samples are drawn for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_cli.dataset.protocol import NO_LABEL, Dataset
from diffusion_cli.errors import UserError
from diffusion_cli.guidance import ClassifierGuidance, Guidance
from diffusion_cli.model.network import Network
from diffusion_cli.noise import Stream, generator

# By number or name, in turn; none: no class; None: as in the data.
Requested = int | str | list[int | str] | None


@dataclass(frozen=True)
class Labels:
    """The labels of samples.

    requested: the classes to sample.
    dataset: whose classes they are.
    guidance: which may have a classifier with classes of its own.
    net: the network; None for the exact denoiser.
    """

    requested: Requested
    dataset: Dataset
    guidance: Guidance
    net: Network | None

    @property
    def num_classes(self) -> int:
        """Classes that may be requested: the data's, or those of the classifier that guides."""
        if isinstance(self.guidance, ClassifierGuidance):
            return self.guidance.classifier.num_classes
        return self.dataset.num_classes

    def draw(self, n: int, seed: int, device: torch.device) -> Tensor | None:
        """(n,) labels int64: the requested ones in turn, or drawn as in the data; None for data without labels."""
        classes = self.num_classes
        if self.requested == NO_LABEL:
            self._check_unconditional()
            return None
        if self.requested is None:
            if classes > self.dataset.num_classes:
                raise UserError("label", None, f"guidance needs one of 0..{classes - 1}")
            if not classes:
                return None
            return self.dataset.draw_labels(n, generator(seed, Stream.LABELS, device=device))
        if not classes:
            raise UserError("label", self.requested, "this model was trained without labels")
        given = self.requested if isinstance(self.requested, list) else [self.requested]
        labels = [self.number(label) for label in given]
        return torch.tensor(labels, device=device).repeat(-(-n // len(labels)))[:n]

    def _check_unconditional(self) -> None:
        """UserError where there are no unconditional samples to draw."""
        if isinstance(self.guidance, ClassifierGuidance):
            raise UserError("label", NO_LABEL, "guidance=classifier needs a class")
        if self.net is not None and self.net.num_classes and not self.guidance.label_dropout:
            reason = "this model was trained without label dropout; train it with guidance.label_dropout=0.1"
            raise UserError("label", NO_LABEL, reason)

    def number(self, label: int | str) -> int:
        """The number of a class, given by its name or number; `none` means no label, which the network knows of label dropout.

        A name goes before a number, so that label=2 is the folder 2 where the folders are 1, 2 and 3.
        """
        classes, names = self.num_classes, self.dataset.class_names
        if str(label) in names and classes == len(names):
            return names.index(str(label))
        if label == NO_LABEL and classes == self.dataset.num_classes and self.guidance.label_dropout > 0:
            return classes
        if isinstance(label, str) or not 0 <= label < classes:
            choices = names if names != tuple(map(str, range(classes))) else ()
            raise UserError("label", label, f"must be one of 0..{classes - 1}", choices)
        return label
