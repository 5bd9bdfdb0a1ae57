"""A run as an object."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_cli.api.calling import calling, performed
from diffusion_cli.api.words import typed, words_of
from diffusion_cli.cli.calls import compose, refusing
from diffusion_cli.commands import output, sample
from diffusion_cli.commands import plot as plotting
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.rows import read_csv

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.figures.graphic import Graphic

# Arguments that stand for a key with a dot.
SHORT = {"steps": "sampler.steps", "w": "guidance.w"}


class Run:
    """A trained run, or an exact denoiser in the place of one.

    Its methods take what the commands of the same name take on the line: keys without a dot as keyword arguments, others as
    strings, such as "sampler.eta=0.5". Beside these, `steps` is sampler.steps and `w` is guidance.w; `quiet` shows nothing
    but warnings. What is not given is the run's own. Raises ArgumentError (a ValueError) for what the command refuses.

    >>> run = Run.load("latest")
    >>> run.sample(1000, sampler="dpmpp", steps=10).x0.shape
    (1000, 2)
    """

    def __init__(self, words: Sequence[str], directory: RunDirectory | None) -> None:
        self._words, self._directory = list(words), directory

    @classmethod
    def load(cls, name: str | os.PathLike[str] = "latest", root: str | os.PathLike[str] = "outputs") -> Run:
        """A trained run.

        name: its directory; latest: the newest finished one below root/train; DATASET: the newest one of that dataset;
            DATASET/STAMP.
        """
        with refusing([]):
            directory = RunDirectory.find(os.fspath(name), root=root)
        directory = RunDirectory(directory.path.absolute())
        return cls([f"run={typed('run', directory.path)}"], directory)

    @classmethod
    def exact(cls, *words: str, **keys: object) -> Run:
        """The exact denoiser of a dataset whose density is known, which needs no training.

        words, keys: as of `train`: dataset="circle", "schedule.T=100".
        """
        line = ["run=exact", *words_of(words, keys)]
        compose("sample", line)
        return cls(line, None)

    # what it is

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._trained().path

    @property
    def config(self) -> Config:
        """Its whole configuration, a nested dict."""
        return self._directory.record.current if self._directory else compose("sample", self._words)

    @property
    def status(self) -> str | None:
        """finished, running, failed or interrupted."""
        return self._trained().status

    @property
    def summary(self) -> Facts:
        """What summary.json holds: status, steps, seconds, loss, metrics, data, versions, ..."""
        return self._trained().summary

    @property
    def metrics(self) -> output.Measured:
        """The metrics at the end of its training: name -> measurement, with value, floor, ratio, ...; shown as a table."""
        from diffusion_cli.metrics.measurement import table_of

        metrics = self.summary.get("metrics") or {}
        return output.Measured(metrics, table_of(metrics))

    @property
    def history(self) -> dict[str, list[float]]:
        """The columns of metrics.csv: step, loss, lr, ..."""
        file = self._trained().metrics_file
        return read_csv(file) if file.is_file() else {}

    # what it does

    def sample(
        self, n: int | None = None, *words: str, quiet: bool = False, **keys: object
    ) -> sample.Samples:
        """New samples, as `diffusion sample` draws them, in the units of the data's file.

        n: how many; None: the run's own number.

        >>> run.sample(500, sampler="ddim", steps=10, label=[0, 1], guidance="cfg", w=2)
        """
        config = self._composed("sample", words, keys if n is None else {"n": n} | keys)
        with refusing(words), calling(quiet, config["threads"]) as session:
            return sample.new_samples(output.components_of(config, session), session.bar)

    def evaluate(self, *words: str, quiet: bool = False, **keys: object) -> output.Measured:
        """The metrics of new samples, as `diffusion evaluate` measures them; shown as a table.

        >>> run.evaluate("evaluation.n=2000", sampler="dpmpp", steps=10)["sliced_w2"]["value"]
        """
        config = self._composed("evaluate", words, keys)
        with refusing(words), calling(quiet, config["threads"]) as session:
            return output.evaluate(output.components_of(config, session), session.bar)

    def plot(self, figure: str = "samples", *words: str, quiet: bool = False, **keys: object) -> Graphic:
        """A figure of the run, which a notebook shows; `.save(path)` writes it.

        figure: its name, see `diffusion list figures`.

        >>> run.plot("trajectories", "figure.shown=20").save("trajectories.png")
        """
        config = self._composed("plot", words, {"figure": figure} | keys)
        with refusing(words), calling(quiet, config["threads"]) as session:
            return plotting.draw_one(figure, config, session, plotting.wanted_results(config))

    def distill(self, *words: str, quiet: bool = False, **keys: object) -> Run:
        """A student that samples in a call or a few what this run samples in many, taught as by `diffusion distill`.

        words, keys: as of `train`.

        >>> run.distill(calls=1)
        """
        return Run.load(performed("distill", [*self._words, *words_of(words, keys)], quiet))

    def components(self, *words: str, quiet: bool = False, **keys: object) -> Components:
        """The objects that the run is made of: dataset, schedule, net, denoiser, sampler, ...

        >>> run.components().denoiser(x_t, t)
        """
        config = self._composed("sample", words, keys)
        with refusing(words), calling(quiet, config["threads"]) as session:
            return output.components_of(config, session)

    def _composed(self, command: str, words: Sequence[str], keys: Mapping[str, object]) -> Config:
        named = {SHORT.get(key, key): value for key, value in keys.items()}
        return compose(command, [*self._words, *words_of(words, named)])

    def _trained(self) -> RunDirectory:
        if self._directory is None:
            raise ArgumentError("run", "exact", "was not trained, and has no directory")
        return self._directory

    # how it is shown

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({' '.join(self._words) if self._directory is None else str(self.path)!r})"

    def _repr_html_(self) -> str:
        if self._directory is None:
            return f"<pre>{html.escape(repr(self))}</pre>"
        known, shown = self.summary, ("status", "error", "steps", "seconds", "loss", "seed", "device")
        facts = [f"{key} {known[key]}" for key in shown if known.get(key) is not None]
        parts = [f"<b>{html.escape(str(self.path))}</b><br>{html.escape(', '.join(facts))}"]
        if self.metrics:
            parts.append(f"<pre>{html.escape(repr(self.metrics))}</pre>")
        picture = self._directory.figures / "samples.png"
        if picture.is_file():
            data = base64.b64encode(picture.read_bytes()).decode()
            parts.append(f'<img src="data:image/png;base64,{data}" style="max-width: 420px">')
        return "\n".join(parts)
