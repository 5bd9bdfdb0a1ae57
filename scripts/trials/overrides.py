"""Random command lines: each ends with 0 or 2, whatever it says, without a traceback and without hanging."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from trials.child import HANG, Child

DEFAULT = 2000
QUICK = 120.0  # seconds for two steps of training, on a busy machine
# What every line begins with, so that it is short where all is well; its own words come after, and win.
TRAIN = ["dataset=circle", "steps=2", "batch_size=4", "model.width=8", "n=4", "stages.every=0", "plots=false",
         "evaluation.n=8", "device=cpu"]  # fmt: skip
BASE = {
    "train": TRAIN,
    "sample": ["run=run", "n=4"],
    "evaluate": ["run=run", "evaluation.n=8", "evaluation.draws=1", "evaluation.floor_draws=2"],
    "plot": ["run=run", "figure=loss"],
}
# No size here is one that a machine would try to work through for hours: they are small, or beyond any bound.
VALUES = ["0", "1", "2", "3", "-1", "0.5", "1e-3", "1e30", "nan", "inf", "-inf", "null", "true", "off", "''", "[]",
          "[1]", "[1,2]", "[0.9,0.99]", "{}", "{a:1}", "abc", "ddpm", "circle", "cosine", "${seed}", "${nothing}",
          "${oc.env:NOTHING}", "${hydra:job.num}", "1,2", "range(3)", "choice(1,2)", "99999999999999999999", "/dev/null",
          "..", "a b", "'a=b'", "\\", "$", "é", "\x00", "???", "_target_", "os.system", "1e3", "0x10", "9" * 400]  # fmt: skip
FORMS = (
    "{key}={value}",
    "+{key}={value}",
    "++{key}={value}",
    "~{key}",
    "~{key}={value}",
    "{key}",
    "{key}==",
    "={value}",
)
# Where nothing is written: a sweep, or a directory that the line names, would be judged by another rule.
LEFT_OUT = ("hydra.run.dir", "hydra.sweep", "logger.mode")


# minutes, or a download
SLOW = (
    "stars_full",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cats",
    "unet2d_cifar",
    "sampler_study",
    "steps_study",
)


def keys(command: str) -> list[str]:
    """Every key of a command and of the options of its groups, and some that are none."""
    from diffusion_cli.options.files import names_of
    from diffusion_cli.options.help import CHOSEN, flat_keys, keys_of_option

    known = [key for key, _ in flat_keys(command)]
    for group in CHOSEN[command]:
        known += [group, *(key for option in names_of(group) for key, _ in keys_of_option(group, option))]
    more = ["dataset._target_", "model._target_", "figures.loss", "figures.loss._target_", "figures.x", "hydra.job.name",
            "hydra.verbose", "hydra.output_subdir", "hydra.mode", "hydra.job_logging", "hydra.callbacks.x", "nothing", "seed.x",
            "a.b.c", "optimizer", "ema", "checkpoint", "hydra", "hydra/launcher", "hydra/job_logging", "guidance.run",
            "figure@figures.y", "steps", "run", "weights"]  # fmt: skip
    return [key for key in dict.fromkeys((*known, *more)) if not key.startswith(LEFT_OUT)]


def options(command: str) -> list[str]:
    from diffusion_cli.options.files import names_of
    from diffusion_cli.options.help import CHOSEN

    chosen = [(group, name) for group in CHOSEN[command] for name in names_of(group)]
    return [f"{group}={name}" for group, name in chosen if not name.startswith(SLOW)]


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    import hypothesis
    from hypothesis import strategies as st

    value = st.one_of(
        st.sampled_from(VALUES),
        st.text(max_size=8).filter(lambda text: not text.startswith("-")),
        st.floats().map(str),
        st.integers(-3, 12).map(str),
    )

    def line(command: str) -> st.SearchStrategy[list[str]]:
        key = st.sampled_from(keys(command))
        word = st.one_of(
            st.sampled_from(options(command)),
            st.builds(lambda key, value: f"{key}={value}", key, value),
            st.builds(
                lambda form, key, value: form.format(key=key, value=value), st.sampled_from(FORMS), key, value
            ),
        )
        words = st.lists(word, min_size=1, max_size=3)
        return words.map(lambda words: [command, *BASE[command], *words])

    codes: Counter[str] = Counter()
    broken: list[str] = []
    home = folder / "home"
    home.mkdir()
    end = Child(["train", *TRAIN, "hydra.run.dir=run"], home).wait()
    if end.code:
        return {"broken": [f"the run: exit {end.code}: {end.err}"]}

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=n, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(st.one_of(line("train"), st.sampled_from(list(BASE)).flatmap(line)))
    def trial(words: list[str]) -> None:
        before = sorted(home.rglob("*"))
        end = Child(words, home, memory=4 * 2**30).wait(QUICK)
        codes[str(end.code)] += 1
        said = end.err.splitlines()
        # a value within its range can still make a training diverge, which is a failure and said as one
        diverged = end.code == 1 and bool(said) and said[-1].startswith("error: diverged by step")
        wrong = [f"exit {end.code}"] if end.code not in (0, 2) and not diverged else []
        wrong = ["hangs"] if end.code == HANG else wrong
        if "Traceback" in end.err + end.out:
            wrong.append("traceback")
        if end.code == 2 and not (said and said[-1].startswith("error: ")):
            wrong.append("no message")
        if end.code == 2 and sorted(home.rglob("*")) != before:
            wrong.append("something is left")
        if wrong:
            broken.append(json.dumps({"words": words, "wrong": wrong, "said": said[-1:]}))

    trial()
    return {"trials": sum(codes.values()), "exit codes": dict(codes), "broken": broken}
