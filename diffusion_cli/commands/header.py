"""What a training says before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusion_cli.runs.directory import RunDirectory

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.model.network import Network


def header(components: Components, net: Network, facts: dict[str, Any], run: RunDirectory) -> str:
    """The block: what was read, what is trained with what, on which device, into which directory.

    facts: of the dataset (`description_of`).
    """
    import torch

    from diffusion_cli.dataset.description import lines_of

    config, chosen = components.config, run.record.choices
    size = sum(parameter.numel() for parameter in net.parameters())
    precision = components.network_denoiser(net).precision_name
    threads = torch.get_num_threads()
    of_run = {
        "network": f"{chosen['model']}, {size:,} parameters",
        "learns": ", ".join(
            f"{group} {chosen[group]}"
            for group in ("parameterization", "objective", "schedule")
            if group in chosen
        ),
        "training": f"{config['steps']:,} steps of {config['batch_size']:,}, {chosen['optimizer']}"
        f" with learning rate {components.optimizer.lr:g}, seed {components.seed}",
        "device": f"{components.device}, {precision}, {threads} thread{'s' if threads > 1 else ''}",
        "directory": f"{run.path}    (Ctrl-C saves, resume=true goes on)",
    }
    data = f"data: {chosen['dataset']}\n{lines_of(facts)}"
    return f"{data}\nrun\n{lines_of(of_run)}"
