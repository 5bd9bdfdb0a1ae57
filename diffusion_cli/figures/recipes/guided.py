"""What kinds of guidance make of one class, in numbers: the picture of autoguidance (Karras et al. 2024, figure 1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.recipes.material import density_of, run_of, view_of
from diffusion_cli.guidance import AutoGuidance, ClassifierFree, Guidance, Unguided
from diffusion_cli.metrics.contour import in_density
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Finite, Several, Whole, checked


@draws("plane")
@checked
def guidance_study(
    components: Components,
    n: Several = 5000,
    label: Whole = 0,
    w: Finite = 1.0,
    between: tuple[Finite, Finite] = (0.1, 2.0),
) -> Figure:
    """Samples of one class without guidance, with classifier-free guidance, the same between two noise levels, and away from
    the worse model that guidance=auto names; above each how many lie outside of the contour of 99 % of the truth, the mean
    log-density, and sliced W2 and coverage over those of true samples.

    n: samples in each panel.
    label: the class.
    w: of every guidance.
    between: noise levels sigma/alpha of the third panel.
    """
    run_of(components)
    density, classes = density_of(components, "guidance_study"), components.dataset.num_classes
    if label >= max(classes, 1):
        raise ArgumentError("label", label, f"must be one of 0..{max(classes, 1) - 1}")
    dropout, own = components.guidance.label_dropout, components.guidance
    kinds: dict[str, Guidance] = {"no guidance": Unguided(dropout)}
    if classes and dropout:
        kinds[f"classifier-free, w = {w:g}"] = ClassifierFree(w, label_dropout=dropout)
        low, high = between
        kinds[f"the same from {low:g} to {high:g}"] = ClassifierFree(w, (low, high), dropout)
    if isinstance(own, AutoGuidance):
        kinds[f"autoguidance, w = {w:g}"] = replace(own, w=w)
    chosen = label if classes else None
    labels = torch.full((n,), label) if classes else None
    true, other = (of_class(components, n, chosen, k) for k in range(2))
    try:
        floor = in_density(other, true, density, labels)
    except ValueError as error:
        raise UserError("figure", "guidance_study", str(error)) from None
    drawn = {}
    for name, guidance in kinds.items():
        x0 = replace(components, guidance=guidance, label=chosen).draw(n).x0.cpu()
        drawn[heading_of(name, in_density(x0, true, density, labels), floor)] = components.units.array(x0)
    drawn[heading_of("truth", floor, floor)] = components.units.array(true)
    return view_of(components).compare(drawn)


def of_class(components: Components, n: int, label: int | None, k: int) -> torch.Tensor:
    """n true points of a class, the k-th set of them."""
    g, found, count = generator(components.seed, Stream.FIGURE, k), [], 0
    while count < n:
        batch = components.dataset.held_out.draw(n, g)
        rows = batch.x0 if batch.label is None else batch.x0[batch.label == label]
        found.append(rows)
        count += len(rows)
    return torch.cat(found)[:n]


def heading_of(name: str, quality: dict[str, float], floor: dict[str, float]) -> str:
    """The lines above a panel."""
    outside, mean = quality["outside"], quality["log_density"]
    w2, coverage = (quality[key] / floor[key] for key in ("sliced_w2", "coverage"))
    # a line each: panels are narrow
    return (
        f"{name}\n{100 * outside:.2g} % outside\nlog p = {mean:.2f}\nW2 {w2:.1f} x\ncoverage {coverage:.2f} x"
    )
