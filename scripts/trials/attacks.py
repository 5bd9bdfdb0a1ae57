"""What a stranger may send, from words on the command line to whole runs, and how it must be refused."""

from __future__ import annotations

import pickle

from trials.forgeries import (
    BOMB,
    GLOBAL,
    GOES_ON,
    OURS,
    SMALL,
    TRAIN,
    Attack,
    Calls,
    added,
    both,
    config,
    deflated,
    forged,
    headed,
    hydra,
    line,
    link,
    option,
    outside,
    overlapping,
    pipe,
    sealed,
    stretched,
    stretched_stage,
    tampered,
    target,
    tarred,
    unfinished,
    weights,
    with_pickle,
)

NOTHING_OF_HYDRA = "says nothing of Hydra"
ATTACKS = [
    # classes on the command line
    Attack("line: os.system", line("model._target_=os.system"), "not one of ours"),
    Attack("line: torch.load", line("model._target_=torch.load"), "not one of ours"),
    Attack(
        "line: through our modules",
        line("model._target_=diffusion_cli.runs.checkpoint.torch.load"),
        "not one of ours",
    ),
    Attack(
        "line: through our rooms",
        line("model._target_=diffusion_cli.model.embedding.torch.load"),
        "is not a component",
    ),
    Attack(
        "line: private names",
        line("model._target_=diffusion_cli.model.mlp.__builtins__.eval"),
        "not one of ours",
    ),
    Attack(
        "line: a function of ours",
        line("dataset._target_=diffusion_cli.dataset.download.fetch"),
        "is not a component",
    ),
    Attack("line: deep", line("+model.block._target_=evil.run"), "by its group"),
    Attack("line: callback", line("+hydra.callbacks.x._target_=evil.run"), "no callbacks but our own"),
    Attack("line: log factory", line('+hydra.job_logging.formatters.simple."()"=evil.run'), ""),
    Attack(
        "line: log class",
        line("hydra.job_logging.handlers.console.class=evil.run"),
        "not a plain log handler",
    ),
    Attack(
        "line: log stream", line("hydra.job_logging.handlers.console.stream=ext://evil.run"), "not a stream"
    ),
    Attack("line: launcher", line("-m", "hydra.launcher._target_=evil.run", "seed=1,2"), "no plugin"),
    Attack(
        "line: sweeper's part",
        line("-m", "+hydra.sweeper.sampler._target_=evil.run", "seed=1,2"),
        "part of the sweeper",
    ),
    Attack("line: searchpath of a package", line("hydra.searchpath=[pkg://evil]"), "only a folder"),
    Attack("line: config-path of a package", line("--config-path", "pkg://evil"), "only a folder"),
    Attack(
        "line: trust by a config",
        line("+hydra.job.env_set.DIFFUSION_CLI_TRUST=evil", "model._target_=evil.Model"),
        "",
    ),
    Attack("line: log out of the run", line("hydra.job.name=../victim/x"), "plain name"),
    Attack("line: subdir out of the run", line("hydra.output_subdir=../victim"), "must be .hydra"),
    Attack("line: option by a way", line("model=../../theirs/evil"), ""),
    # files of options
    Attack("option: class", option(target("evil.Model") + "width: 8\n", "model"), "not one of ours"),
    Attack("option: callback", option(hydra("callbacks:\n  x:\n    _target_: evil.run")), NOTHING_OF_HYDRA),
    Attack(
        "option: callback by package",
        option("# @package hydra.callbacks.x\n" + target("evil.run"), "experiment"),
        NOTHING_OF_HYDRA,
    ),
    Attack(
        "option: log factory",
        option(hydra("job_logging:\n  formatters:\n    simple:\n      (): evil.run")),
        NOTHING_OF_HYDRA,
    ),
    Attack(
        "option: log file",
        option(hydra("job_logging:\n  handlers:\n    file:\n      filename: VICTIM/log")),
        NOTHING_OF_HYDRA,
    ),
    Attack(
        "option: run directory", option(hydra("run:\n  dir: VICTIM"), "dataset", "seed=1"), NOTHING_OF_HYDRA
    ),
    Attack("option: environment", option(hydra("job:\n  env_set:\n    DIFFUSION_CLI_TRUST: evil")), ""),
    Attack(
        "option: a sweep's second job",
        lambda home: [
            *option(hydra("run:\n  dir: VICTIM"))(home)[:3],
            "-m",
            "dataset=circle,evil",
            *SMALL,
            "hydra.sweep.dir=run",
        ],
        NOTHING_OF_HYDRA,
    ),
    Attack("option: searchpath", option(hydra("searchpath:\n- pkg://evil")), ""),
    Attack("option: alias bomb", option(BOMB), "aliases"),
    Attack("option: huge", option("x: " + "a" * 10**6), "larger than"),
    Attack("option: deep", option("x: " + "[" * 5000 + "]" * 5000), "nested too deeply"),
    Attack(
        "option: figure elsewhere",
        option(
            GLOBAL
            + "figures:\n  ../../victim/x:\n    _target_: diffusion_cli.figures.recipes.samples.samples\n"
        ),
        "no name of a key",
    ),
    # runs of a stranger: their configuration
    Attack("run: class", tampered(config(OURS, "evil.Model")), "not one of ours"),
    Attack(
        "run: class behind ours",
        tampered(config(OURS, "diffusion_cli.model.embedding.torch.hub.load")),
        "is not a component",
    ),
    Attack(
        "run: function of ours",
        tampered(config("diffusion_cli.dataset.plane.Circle", "diffusion_cli.dataset.download.fetch")),
        "is not a component",
    ),
    Attack("run: environment", tampered(added('"${oc.env:SECRET}"')), "from outside"),
    Attack("run: environment, escaped", tampered(added('"\\u0024{oc.env:SECRET}"')), "from outside"),
    Attack("run: environment, as a name", tampered(added('{"${oc.env:SECRET}": 1}')), "from outside"),
    Attack(
        "run: environment, in a key's place",
        tampered(config('"seed": 0', '"seed": "${oc.env:SECRET}"')),
        "from outside",
    ),
    Attack(
        "run: hydra's node",
        tampered(config('"seed": 0', '"seed": 0, "hydra": {"run": {"dir": "victim"}}')),
        "",
    ),
    Attack(
        "run: options as YAML", tampered(config("{", "!!python/object/apply:evil.run {")), "cannot be read"
    ),
    Attack("run: huge config", tampered(added('"' + "a" * 2**20 + '"')), "larger than"),
    Attack("run: huge number", tampered(config('"seed": 0', '"seed": ' + "9" * 10**5)), "cannot be read"),
    Attack(
        "run: number beyond a seed", tampered(config('"seed": 0', '"seed": ' + "9" * 300)), "whole number"
    ),
    Attack("run: bottomless config", tampered(added("[" * 10**5)), "cannot be read"),
    Attack("run: deep config", tampered(added("[" * 100 + "]" * 100)), "too deep"),
    Attack("run: wide config", tampered(added("[" + "0," * 150_000 + "0]")), "too large"),
    Attack(
        "run: size beyond any machine",
        tampered(config('"sample_batch": 10000', '"sample_batch": 1e99')),
        "whole number",
    ),
    Attack("run: config is a pipe", tampered(pipe("config.json")), "no ordinary file"),
    Attack("run: config is a link", tampered(link("config.json", "precious.txt")), "cannot be read"),
    Attack(
        "run: figure elsewhere",
        tampered(config('"figures": {', '"figures": {"../../victim/x": null, ')),
        "no name of a key",
    ),
    Attack(
        "runs: class in one of many",
        tampered(
            config(OURS, "evil.Model"),
            "plot",
            "runs=[theirs]",
            "figure=sweep_grid",
            "x=seed",
            "y=loss",
            "hydra.run.dir=run",
        ),
        "not one of ours",
    ),
    # and their files
    Attack("run: pickle", tampered(weights(with_pickle)), "no checkpoint"),
    Attack("run: plain pickle", tampered(weights(lambda file: pickle.dumps(Calls()))), "no checkpoint"),
    Attack("run: zip bomb", tampered(weights(deflated)), "no checkpoint"),
    Attack("run: tar", tampered(weights(tarred)), "no checkpoint"),
    Attack("run: endless header", tampered(weights(lambda file: b"\xff" * 8 + b"{")), "no checkpoint"),
    Attack("run: stretched tensor", tampered(weights(headed(stretched))), "no checkpoint"),
    Attack("run: overlapping tensors", tampered(weights(headed(overlapping))), "no checkpoint"),
    Attack("run: tensor outside the file", tampered(weights(headed(outside))), "no checkpoint"),
    Attack("run: bottomless values", tampered(weights(sealed("[" * 10**6))), "no checkpoint"),
    Attack("run: endless values", tampered(weights(sealed('"' + "a" * 2**25 + '"'))), "no checkpoint"),
    Attack(
        "run: sealed nonsense",
        tampered(weights(forged(lambda content: content.update(state=7)))),
        "no checkpoint",
    ),
    Attack(
        "run: checkpoint is a pipe", tampered(pipe("checkpoints/step_00000004.safetensors")), "checkpoints"
    ),
    Attack(
        "run: weights of another network",
        tampered(weights(forged(lambda content: content["state"]["ema"].popitem()))),
        "do not fit",
    ),
    Attack(
        "run: classifier's checkpoint",
        tampered(
            weights(forged(lambda content: content["config"]["model"].update(_target_="evil.Model"))),
            "sample",
            "run=theirs",
            "guidance=classifier",
            "guidance.run=theirs",
            "n=4",
            "hydra.run.dir=run",
        ),
        "not one of ours",
    ),
    Attack(
        "run: start from a pickle", tampered(weights(with_pickle), *TRAIN, "init=theirs"), "no checkpoint"
    ),
    Attack(
        "run: stage with a pickle",
        tampered(stretched_stage, "plot", "run=theirs", "figure=stages", "hydra.run.dir=run"),
        "cannot be read",
    ),
    # going on in a stranger's directory
    Attack(
        "resume: log is a link",
        tampered(both(unfinished, link("train.log", "precious.txt")), *GOES_ON),
        "symbolic link",
    ),
    Attack(
        "resume: lock is a link",
        tampered(both(unfinished, link(".lock", "precious.txt")), *GOES_ON),
        "symbolic link",
    ),
    Attack(
        "resume: checkpoints are elsewhere",
        tampered(both(unfinished, link("checkpoints", ".")), *GOES_ON),
        "symbolic link",
    ),
    Attack(
        "resume: .hydra is elsewhere",
        tampered(both(unfinished, link(".hydra", ".")), *GOES_ON),
        "symbolic link",
    ),
    Attack(
        "resume: config is a link",
        tampered(both(unfinished, link("config.json", "precious.txt")), *GOES_ON),
        "cannot be read",
    ),
    Attack("resume: config is a pipe", tampered(both(unfinished, pipe("config.json")), *GOES_ON), ""),
    Attack("resume: pickle", tampered(both(unfinished, weights(with_pickle)), *GOES_ON), "no checkpoint"),
]
