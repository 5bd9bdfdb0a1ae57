"""What a stranger may send, from words on the command line to whole runs, and how it must be refused."""

from __future__ import annotations

import os
import pickle

from trials.forgeries import (
    BOMB,
    GLOBAL,
    GOES_ON,
    OURS,
    SMALL,
    Attack,
    Calls,
    both,
    config,
    deflated,
    forged,
    hydra,
    line,
    link,
    option,
    stretched,
    stretched_stage,
    tampered,
    target,
    unfinished,
    unfolding,
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
    Attack("option: callback", option(hydra("callbacks:\n  x:\n    _target_: evil.run")), "no callbacks"),
    Attack(
        "option: callback by package",
        option("# @package hydra.callbacks.x\n" + target("evil.run"), "experiment"),
        "no callbacks",
    ),
    Attack(
        "option: log factory",
        option(hydra("job_logging:\n  formatters:\n    simple:\n      (): evil.run")),
        "log handler",
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
    # runs of a stranger
    Attack("run: class", tampered(config(OURS, "evil.Model")), "not one of ours"),
    Attack(
        "run: class behind ours",
        tampered(config(OURS, "diffusion_cli.model.embedding.torch.hub.load")),
        "is not a component",
    ),
    Attack("run: environment", tampered(config("seed: 0", "seed: 0\nx: ${oc.env:SECRET}")), "from outside"),
    Attack(
        "run: environment, escaped",
        tampered(config("seed: 0", 'seed: 0\nx: "\\x24{oc.env:SECRET}"')),
        "from outside",
    ),
    Attack(
        "run: environment, nested",
        tampered(config("seed: 0", "seed: 0\ny: oc.env\nx: ${${y}:SECRET}")),
        "from outside",
    ),
    Attack("run: alias bomb", tampered(lambda run: (run / ".hydra/config.yaml").write_text(BOMB)), "aliases"),
    Attack("run: python tag", tampered(config("seed: 0", "seed: !!python/object/apply:evil.run []")), ""),
    Attack("run: huge config", tampered(config("seed: 0", "seed: 0\nx: " + "a" * 10**6)), "larger than"),
    Attack(
        "run: references that double",
        tampered(
            config(
                "seed: 0",
                "seed: 0\na0: x\n" + "".join(f"a{k}: ${{a{k - 1}}}${{a{k - 1}}}\n" for k in range(1, 40)),
            )
        ),
        "too often",
    ),
    Attack(
        "run: config is a pipe",
        tampered(lambda run: ((run / ".hydra/config.yaml").unlink(), os.mkfifo(run / ".hydra/config.yaml"))),
        "",
    ),
    Attack("run: pickle", tampered(weights(with_pickle)), "no checkpoint"),
    Attack("run: plain pickle", tampered(weights(lambda file: pickle.dumps(Calls()))), "no checkpoint"),
    Attack("run: stretched tensor", tampered(weights(stretched)), "no checkpoint"),
    Attack("run: unfolding list", tampered(weights(unfolding)), "no checkpoint"),
    Attack("run: zip bomb", tampered(weights(deflated)), "no checkpoint"),
    Attack(
        "run: checkpoint is a pipe",
        tampered(lambda run: [(file.unlink(), os.mkfifo(file)) for file in (run / "checkpoints").iterdir()]),
        "checkpoints",
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
        "run: sealed nonsense",
        tampered(weights(forged(lambda content: content.update(state=7)))),
        "no checkpoint",
    ),
    Attack("resume: pickle", tampered(both(unfinished, weights(with_pickle)), *GOES_ON), "no checkpoint"),
]
