"""Simple truths that hold for every value: schedules, grids of times, predictions, units, tables and masks."""

from __future__ import annotations

import csv
import io
import itertools
import math
import warnings

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from diffusion_cli import sampler, schedule
from diffusion_cli.dataset.mask import make_mask, pixels_of, spread
from diffusion_cli.dataset.table import read_table
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.prediction import X0, Eps, Mean, V

# a busy machine is no fault
quick = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
MADE = ("constant", "linear", "quadratic", "sigmoid", "cosine", "loglinear")


@st.composite
def schedules(draw: st.DrawFn) -> schedule.Schedule:
    """A schedule of any kind and length, with ends of its own; those that are refused are left out."""
    name, T = draw(st.sampled_from(MADE)), draw(st.integers(1, 60))
    low, high = sorted(draw(st.tuples(st.floats(1e-5, 0.5), st.floats(1e-5, 0.5))))
    assume(low < 0.9 * high)
    ends = {"constant": {"beta": high}, "cosine": {"s": low, "alpha_min": high / 10},
            "loglinear": {"sigma_min": low, "sigma_max": 100 * high}}  # fmt: skip
    keys = ends.get(name, {"beta_min": low, "beta_max": high, "rescale": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(schedule, name)(T=T, **keys)
        except ArgumentError:
            assume(False)
            raise


@quick
@given(schedules(), st.data())
def test_a_level_is_of_unit_variance_and_noise_grows_with_time(
    made: schedule.Schedule, data: st.DataObject
) -> None:
    times = sorted(data.draw(st.lists(st.floats(0, made.T), min_size=2, max_size=6, unique=True)))
    level = made.level(
        torch.tensor(times, dtype=torch.float64), torch.zeros(len(times), 1, dtype=torch.float64)
    )
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones_like(level.alpha))
    assert bool((level.alpha.diff(dim=0) <= 0).all()) and bool((level.sigma.diff(dim=0) >= 0).all())
    assert bool(((level.beta >= 0) & (level.beta < 1)).all())
    for t, alpha, sigma in zip(times, level.alpha.flatten(), level.sigma.flatten(), strict=True):
        # one time for all is the same as a time for each
        one = made.level(t, torch.zeros(1))
        assert float(one.alpha) == pytest.approx(float(alpha)) and float(one.sigma) == pytest.approx(
            float(sigma), abs=1e-9
        )
        if t >= 1 and made.T > 1:
            log_snr = torch.log(alpha**2 / sigma**2)
            assert float(made.time_of(log_snr)) == pytest.approx(t, rel=1e-4, abs=1e-4)


@quick
@given(schedules(), st.integers(1, 80), st.sampled_from(["uniform", "log_snr", "rho"]), st.floats(0.5, 20))
def test_a_grid_falls_from_T_to_1_and_0(made: schedule.Schedule, steps: int, grid: str, rho: float) -> None:
    for kind in (sampler.DDIM, sampler.Heun, sampler.Multistep):
        times = kind(steps=steps, grid=grid, rho=rho).times(made)
        assert len(times) == steps + 1 and times[0] == pytest.approx(made.T) and times[-1] == 0
        assert all(0 <= s <= t <= made.T + 1e-9 for t, s in itertools.pairwise(times))
        if steps > 1:
            assert times[-2] == pytest.approx(1, abs=1e-6)


@quick
@given(schedules(), st.sampled_from([Eps, X0, V, Mean]), st.integers(0, 2**31), st.data())
def test_what_a_target_says_is_what_is_decoded(
    made: schedule.Schedule, kind: type, seed: int, data: st.DataObject
) -> None:
    t = data.draw(st.floats(1, made.T))
    g = torch.Generator().manual_seed(seed)
    x0, eps = (torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2))
    level = made.level(t, x0)
    x_t = level.alpha * x0 + level.sigma * eps
    parameterization = kind()
    found = parameterization.decode(parameterization.target(x0, eps, level), x_t, level)
    # an error of x0 counts alpha/sigma times in eps, and the other way round
    small = 1e-9 * max(1.0, float(level.alpha / level.sigma), float(level.sigma / level.alpha)) ** 2
    torch.testing.assert_close(found.x0, x0, rtol=0, atol=small)
    torch.testing.assert_close(found.eps, eps, rtol=0, atol=small)
    torch.testing.assert_close(level.alpha * found.x0 + level.sigma * found.eps, x_t, rtol=0, atol=small)


@quick
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6).map(lambda v: round(v, 3))] * 2), min_size=2, max_size=20),
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e6),
)
def test_standard_units_are_standard_and_lead_back(
    points: list[tuple[float, float]], centre: float, scale: float
) -> None:
    x = torch.tensor(points, dtype=torch.float64) * scale + centre
    try:
        units = Units.of(x)
    except ValueError as error:
        assert "no spread" in str(error)
        return
    inside = units.inward(x)
    # of what a mean of such large numbers is known to
    rounding = 1e-12 * (1 + float(x.abs().max()) / units.scale)
    assert float(inside.mean(0).abs().max()) < 1e-9 + rounding
    assert float(inside.square().mean().sqrt()) == pytest.approx(1, abs=1e-6 + rounding)
    back = units.outward(inside)
    precise = 1e-12 if back.dtype == torch.float64 else 2e-5
    assert float((back - x).abs().max()) <= precise * (
        units.scale * float(inside.abs().max()) + float(x.abs().max())
    )
    # forms stay what they are: one scale for all coordinates
    torch.testing.assert_close(torch.cdist(inside, inside) * units.scale, torch.cdist(x, x), rtol=1e-6,
                               atol=1e-6 * units.scale + 1e-7 * float(x.abs().max()))  # fmt: skip


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


@quick
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=1, max_size=8)
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_a_table_is_read_as_it_was_written(
    rows: list[list[float]], delimiter: str, end: str, encoding: str, named: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    names = tuple(f"column_{k}" for k in range(len(rows[0])))
    writer.writerows([names] * named + [[repr(value) for value in row] for row in rows])
    table = read_table(text.getvalue().encode(encoding))
    assert table.header == (names if named else None)
    assert [[table.number(i, k) for k in range(len(rows[0]))] for i in range(len(table.rows))] == rows
    assert table.lines == [*range(1 + named, 1 + named + len(rows))]


@quick
@given(st.binary(max_size=200))
def test_bytes_are_a_table_or_refused(content: bytes) -> None:
    try:
        table = read_table(content)
    except ValueError:
        return
    for i, row in enumerate(table.rows):
        assert len(row) == len(table.rows[0])
        for k in range(len(row)):
            try:
                assert math.isfinite(table.number(i, k)) or len(row[k]) > 300
            except ValueError as error:
                assert f"line {table.lines[i]}, column " in str(error)


@quick
@given(
    st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 3)),
              st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))),
    st.sampled_from(["left_half", "right_half", "box", "random"]), st.integers(0, 2**31),
)  # fmt: skip
def test_a_mask_hides_something_and_leaves_something(shape: tuple[int, ...], name: str, seed: int) -> None:
    try:
        mask = make_mask(name, shape, seed)
    except UserError:
        # a single pixel, or a box that there is no room for
        assert min(pixels_of(shape)) < 4
        return
    assert tuple(mask.shape) == pixels_of(shape) and mask.dtype == torch.bool
    assert bool(mask.any()) and not bool(mask.all())
    assert torch.equal(mask, make_mask(name, shape, seed))
    assert spread(mask, shape).expand(2, *shape).shape == (2, *shape)
    if name in ("left_half", "right_half"):
        other = make_mask("right_half" if name == "left_half" else "left_half", shape)
        assert not bool((mask & other).any()) and torch.equal(mask, other.flip(-1))
