"""Every metric of ours: its name, what people call it, its unit, and which way is better. (No torch.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"] | float  # a number: the nearer to it, the better


@dataclass(frozen=True)
class Metric:
    """One metric. A user's own evaluation makes its own of these: `Metric("vendi", "Vendi score", better="higher")`.

    name: the key of its value in reports, summary.json and tables.
    label: what tables and figures call it.
    unit: of its value; "" for a plain number.
    better: lower, higher, a number (the nearer to it, the better), or floor (the nearer to the value of true samples).
    of_all: whether it compares with all of the data, and so says nothing of samples of requested classes alone.
    """

    name: str
    label: str
    unit: str = ""
    better: Better | Literal["floor"] = "lower"
    of_all: bool = False


# Units beside those that need no name. The data's own, their square and root; those of an extractor's features, squared.
DATA, DATA_SQUARED, DATA_ROOT = "data", "data^2", "data^(1/2)"
FEATURES_SQUARED = "features^2"
NATS, BITS, BITS_PER_DIMENSION = "nats", "bits", "bits per dimension"

DISTANCES = (
    Metric("distance_mean", "distance, mean", DATA),
    Metric("distance_p99", "distance, 99 %", DATA),
)
POINTS = (
    Metric("sliced_w2", "sliced W2", DATA, of_all=True),
    Metric("outliers", "outliers"),
    Metric("energy", "energy distance", DATA_ROOT, of_all=True),
    Metric("coverage", "coverage", DATA, of_all=True),
    *DISTANCES,
)
OUTSIDE = Metric("outside", "outside of the support")
MIXTURE = (
    Metric("weight_error", "error of weights"),
    Metric("mean_error", "error of means", DATA),
    Metric("width_ratio", "ratio of widths", better=1.0),
    Metric("wrong_mode", "in a wrong mode"),
)
# Of atoms, which have no width to divide by.
ATOMS = (*MIXTURE[:2], Metric("width_ratio", "width", DATA), MIXTURE[3])
CHAMFER = (
    Metric("mmd_cd", "MMD, Chamfer", DATA_SQUARED, of_all=True),
    Metric("coverage_cd", "COV, Chamfer", better="higher", of_all=True),
    Metric("one_nn_cd", "1-NNA, Chamfer", better=0.5, of_all=True),
)
EARTH_MOVER = (
    Metric("mmd_emd", "MMD, earth mover", DATA, of_all=True),
    Metric("coverage_emd", "COV, earth mover", better="higher", of_all=True),
    Metric("one_nn_emd", "1-NNA, earth mover", better=0.5, of_all=True),
)
JSD = Metric("jsd", "JSD, bits", BITS, of_all=True)
STARS = (
    Metric("outline_mean", "outline distance, mean", DATA),
    Metric("outline_p90", "outline distance, 90 %", DATA),
)
SURFACE = (
    Metric("surface_mean", "surface distance, mean", DATA),
    Metric("surface_p90", "surface distance, 90 %", DATA),
)
ARMED = Metric("armed", "fraction with arms", better="floor")
IMAGES = (
    Metric("frechet", "Fréchet distance", FEATURES_SQUARED, of_all=True),
    Metric("kernel", "kernel distance", of_all=True),
    Metric("precision", "precision", better="higher"),
    Metric("recall", "recall", better="higher", of_all=True),
)
# Of images: whether a classifier of clean images reads the label that was requested. Of a noise-aware classifier: its own.
ACCURACY = Metric("accuracy", "accuracy of labels", better="higher")
BEST_ACCURACY = Metric("best_accuracy", "best possible accuracy", better="higher")
POSTERIOR_ERROR = Metric("posterior_error", "error of p(label | x_t)")
FLOW = Metric("flow", "log-likelihood", NATS, "higher")
FLOW_ERROR = Metric("flow_error", "log-likelihood less the truth, t = 1", NATS, 0.0)
FLOW_BITS = Metric("flow_bits", "negative log-likelihood", BITS_PER_DIMENSION)
BOUND = Metric("bound", "variational bound", BITS_PER_DIMENSION)
BOUND_GAP = Metric("bound_gap", "variational bound less the truth", NATS)
LIKELIHOOD = (FLOW, FLOW_ERROR, FLOW_BITS, BOUND, BOUND_GAP)


def arms(k: int) -> Metric:
    """The fraction of stars with k arms."""
    return Metric(f"arms_{k}", f"fraction with {k} arms", better="floor")


def accuracy_between(low: float, high: float) -> Metric:
    """The accuracy of a noise-aware classifier where low < sigma/alpha <= high."""
    return Metric(f"accuracy_{low:g}_{high:g}", f"accuracy, noise {low:g} to {high:g}", better="higher")


COPIES = Metric("copies", "fraction of copies")
LOSS_GAP = Metric("loss_gap", "held-out less training loss", better=0.0)


def score_distance(of: str, level: float | None = None) -> Metric:
    """How far a network is from the exact score of its training examples (empirical), or of their density (truth)."""
    at = "" if level is None else f", noise {level:g}"
    better: Better = "lower" if of == "truth" else "higher"
    name = f"{of}_score" + ("" if level is None else f"_{level:g}")
    return Metric(name, f"distance to the {NAMES[of]} score{at}", better=better)


NAMES = {"empirical": "empirical", "truth": "true"}
_ALL = [
    *POINTS,
    OUTSIDE,
    *MIXTURE,
    *CHAMFER,
    *EARTH_MOVER,
    JSD,
    *STARS,
    *SURFACE,
    ARMED,
    *IMAGES,
    ACCURACY,
    BEST_ACCURACY,
    POSTERIOR_ERROR,
    *LIKELIHOOD,
    COPIES,
    LOSS_GAP,
    score_distance("empirical"),
    score_distance("truth"),
]
METRICS = {metric.name: metric for metric in _ALL}


def label_of(name: str) -> str:
    """What people call the metric of this name; the name itself for one that is not in this table."""
    return METRICS[name].label if name in METRICS else name
