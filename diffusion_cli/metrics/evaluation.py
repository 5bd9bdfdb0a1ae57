"""Evaluations, as a config chooses them: what is measured, on how many samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, cast

from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.image_report import RealImages, evaluate_images, images_table
from diffusion_cli.metrics.inception import Inception, weights_file
from diffusion_cli.metrics.judge import judge_for
from diffusion_cli.metrics.likelihood_report import evaluate_likelihood, likelihood_table
from diffusion_cli.metrics.measurement import Report, unmeasured, with_notes
from diffusion_cli.metrics.mixture import describe_modes, evaluate_modes, modes_table
from diffusion_cli.metrics.points import evaluate_points, points_table
from diffusion_cli.metrics.protocol import Evaluation, EvaluationInput
from diffusion_cli.metrics.set_report import evaluate_sets, sets_table
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Draws, Facts, Many, Several, SeveralDraws, Steps, Whole, checked

HELD_OUT = (
    "compared with {} held-out points; the floor is of those trained on, which learning by heart reaches"
)
NOTHING_HELD_OUT = (
    "no points are held out (dataset.test=N): compared with those trained on, learning by heart is best"
)


@checked
@dataclass(frozen=True)
class PointEvaluation(Evaluation):
    """Samples against a density known in closed form: see `metrics.points.PointMetrics`.

    n: samples in each draw.
    draws: independent sets of samples.
    floor_draws: independent sets of true points, for the floor; at least 2.
    """

    n: Several = 10_000
    draws: Draws = 3
    floor_draws: SeveralDraws = 16

    def __call__(self, given: EvaluationInput) -> Report:
        dataset = given.dataset
        density, truth = dataset.density, dataset.truth
        if density is None or truth is None:
            return unmeasured("this dataset has no density in closed form to compare with")
        report = evaluate_points(
            lambda k: given.draw(k).x0,
            truth,
            self.n,
            self.draws,
            self.floor_draws,
            given.seed,
            density,
            given.progress,
            given.each,
        )
        if not isinstance(dataset, PointCloud):
            return report
        count = dataset.held_out.count
        return with_notes(report, HELD_OUT.format(count) if count else NOTHING_HELD_OUT)

    def table(self, report: Report) -> str:
        return points_table(report)


@checked
@dataclass(frozen=True)
class MixtureEvaluation(PointEvaluation):
    """Samples of a mixture against its density, and weight, mean and width of each mode; see `metrics.mixture`.

    Adds to the report of `PointEvaluation` the `mixture.mode_errors`, and `modes`, a list that describes each mode.
    """

    def check(self, dataset: Dataset) -> None:
        self._mixture(dataset)

    def _mixture(self, dataset: Dataset) -> Points:
        if not isinstance(dataset.density, Points):
            raise ArgumentError("", ..., "mixtures are of points or Gaussians; take evaluation=points")
        return dataset.density

    def __call__(self, given: EvaluationInput) -> Report:
        density = self._mixture(given.dataset)
        batches = [given.draw(k) for k in range(self.draws)]
        report = super().__call__(replace(given, draw=batches.__getitem__))
        true = generator(given.seed, Stream.TRUE_MIXTURE)
        modes = evaluate_modes(batches, density, self.n, self.floor_draws, true, given.progress)
        return {**report, **modes, "modes": describe_modes(density, [batch.x0 for batch in batches])}

    def table(self, report: Report) -> str:
        return f"{points_table(report)}\n{modes_table(cast(list[Facts], report['modes']))}"


@checked
@dataclass(frozen=True)
class SetEvaluation(Evaluation):
    """Whole sets of points against held-out ones: see `metrics.set_report.evaluate_sets`.

    n: sets in each draw, and held-out ones.
    points: random points that are taken of each set.
    draws: independent collections of samples.
    floor_draws: collections of training sets, for the floor; at least 2.
    emd_points: points of each set for the earth mover's distance; null leaves it out.
    """

    n: Several = 64
    points: Many = 512
    draws: Draws = 3
    floor_draws: SeveralDraws = 4
    emd_points: Many | None = 128

    def __call__(self, given: EvaluationInput) -> Report:
        dataset = given.dataset
        if not isinstance(dataset, SetDataset):
            return unmeasured("sets are compared with sets, which this dataset does not hold")
        train, test = len(dataset.train), len(dataset.test)
        n = min(train, test, self.n)
        if n < 2:
            return unmeasured(
                f"{test} held-out sets of {train + test}; two or more are needed: dataset.test=2"
            )
        report = evaluate_sets(
            lambda k: given.draw(k).x0,
            dataset.train.cpu(),
            dataset.test.cpu(),
            self.n,
            self.points,
            self.draws,
            self.floor_draws,
            self.emd_points,
            dataset.family,
            given.seed,
            given.progress,
            given.each,
        )
        fewer = f"{n} samples of {self.n}, since {test} sets are held out and {train} trained on"
        return with_notes(report, *([fewer] if n < self.n else []))

    def table(self, report: Report) -> str:
        return sets_table(report)


@checked
@dataclass(frozen=True)
class ImageEvaluation(Evaluation):
    """Images against real ones: see `metrics.image_report.evaluate_images`.

    n: images in each draw.
    draws: independent collections of samples.
    floor_draws: collections of real images, for the floor; at least 2.
    reference: the images to compare with, whole: test (held out) or train. The floor is of the other ones. The literature
        takes train, by which a model that repeats its training images is the best.
    neighbours: k of precision and recall.
    extractor: what sees the images. judge: a classifier trained on this data once; inception: needs the extra
        `inception` and its weights, which are downloaded.
    """

    n: Several = 1_000
    draws: Draws = 1
    floor_draws: SeveralDraws = 16
    reference: Literal["test", "train"] = "test"
    neighbours: Many = 3
    extractor: Literal["judge", "inception"] = "judge"
    _real: dict[str, RealImages] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.extractor == "inception":
            # Refused, where they are missing, before anything is trained.
            weights_file()

    def check(self, dataset: Dataset) -> None:
        self._images(dataset)

    def _images(self, dataset: Dataset) -> ImageDataset:
        if not isinstance(dataset, ImageDataset):
            raise ArgumentError("", ..., "images are compared with images, which this dataset does not hold")
        return dataset

    def prepare(self, given: EvaluationInput) -> None:
        """Trains the judge if need be, and looks at the real images, which is done once and may take a minute or two."""
        self._real_images(given)

    def __call__(self, given: EvaluationInput) -> Report:
        real = self._real_images(given)
        if real is None:
            dataset, k = self._images(given.dataset), self.neighbours
            train, test = len(dataset.train.images), len(dataset.test.images)
            reason = f"{test} held-out images of {train + test}, {train} trained on, n = {self.n}"
            return unmeasured(f"{reason}; each must be more than evaluation.neighbours={k}")
        report = evaluate_images(given.draw, real, self.draws, given.progress, given.each)
        fewer = f"{real.n} samples of {self.n}, since no more images are trained on"
        return with_notes(report, *([fewer] if real.n < self.n else []))

    def _real_images(self, given: EvaluationInput) -> RealImages | None:
        dataset = self._images(given.dataset)
        if min(self.n, len(dataset.train.images), len(dataset.test.images)) <= self.neighbours:
            return None
        if dataset.fingerprint not in self._real:
            device, progress = given.device, given.progress
            eye = Inception(device) if self.extractor == "inception" else judge_for(dataset, device, progress)
            self._real[dataset.fingerprint] = RealImages(
                eye,
                dataset,
                self.n,
                self.floor_draws,
                self.neighbours,
                given.seed,
                device,
                progress,
                self.reference,
                given.each,
            )
        return self._real[dataset.fingerprint]

    def table(self, report: Report) -> str:
        return images_table(report)


@checked
@dataclass(frozen=True)
class LikelihoodEvaluation(Evaluation):
    """Log-likelihood of fresh data under the model, by the probability-flow ODE and by the variational bound.

    See `metrics.likelihood_report.evaluate_likelihood`. Given labels, all is conditional on them.

    n: points of the data.
    steps: of the solver of the probability-flow ODE.
    probes: 0 for the exact divergence; else random signs for each point in Hutchinson's estimate.
    """

    n: Several = 2_000
    steps: Steps = 100
    probes: Whole = 0

    def __call__(self, given: EvaluationInput) -> Report:
        if given.denoiser is None:
            raise ValueError("a classifier has no likelihood")
        return evaluate_likelihood(
            given.denoiser, given.dataset, self.n, self.steps, self.probes, given.seed, given.device
        )

    def table(self, report: Report) -> str:
        return likelihood_table(report)
