"""Streams of random numbers: functions of seed, use and position, no two of which give the same numbers."""

import ast
import itertools
from pathlib import Path

import pytest
import torch
from scipy import stats

from diffusion_cli.noise import ROWS, NoiseStream, Stream, generator, mix, seeded

PACKAGE = Path(__file__).parents[1] / "diffusion_cli"


def first(g: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(2**62, (2,), generator=g).tolist())


def test_no_two_streams_positions_or_seeds_give_the_same_numbers() -> None:
    places = [(), *((k,) for k in range(20)), (2**40,), *itertools.product(range(4), range(4))]
    seen = {}
    for seed, stream, position in itertools.product((0, 1, 2, 2**63 - 1), Stream, places):
        numbers = first(generator(seed, stream, *position))
        assert numbers not in seen, (seed, stream, position, seen[numbers])
        seen[numbers] = (seed, stream, position)
    assert first(generator(0, Stream.WEIGHTS)) == first(generator(0, Stream.WEIGHTS))


def test_a_derived_seed_leads_to_numbers_of_its_own() -> None:
    """As evaluation uses it: the seed of the k-th set of samples, whose chains and labels are streams of that."""
    seeds = [0, 1, *(mix(0, Stream.EVALUATION, k) for k in range(20))]
    numbers = [first(generator(seed, stream)) for seed in seeds for stream in (Stream.CHAIN, Stream.LABELS)]
    assert len(set(numbers)) == len(numbers)


def test_no_two_blocks_of_noise_are_equal_and_none_is_anothers_stream() -> None:
    n = 5 * ROWS
    streams = [NoiseStream(seed, n, (2,), stream=s) for seed in (0, 1) for s in (Stream.CHAIN, Stream.BOUND)]
    heads = [tuple(x[row].tolist()) for x in (s() for s in streams) for row in range(0, n, ROWS)]
    others = [
        tuple(torch.randn(2, generator=generator(seed, stream, *k)).tolist())
        for seed, stream, k in itertools.product((0, 1), Stream, ((), (0,), (1,)))
        if stream not in (Stream.CHAIN, Stream.BOUND)
    ]
    assert len(set(heads + others)) == len(heads + others)


def test_a_row_of_noise_depends_on_seed_row_and_call_alone() -> None:
    few, many = NoiseStream(3, 300, (2, 2)), NoiseStream(3, 1000, (2, 2))
    for _ in range(3):
        assert torch.equal(few(), many()[:300])
    numbers = torch.cat([NoiseStream(3, 5000, (2,))().flatten(), many().flatten()])
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 1e-3


def test_within_seeded_the_global_generator_is_a_stream_and_afterwards_what_it_was() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(4)
    torch.manual_seed(5)
    with seeded(0, Stream.DROPOUT, 7):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), undisturbed)
    assert torch.equal(inside, torch.rand(4, generator=generator(0, Stream.DROPOUT, 7)))


def unnamed(source: str) -> list[str]:
    """The calls that make random numbers of a seed without naming their stream.

    Methods of these names are others (a network's block has a `mix`); a RandomState is made of a seed that is mixed.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("generator", "seeded", "mix") and isinstance(node.func, ast.Name):
            stream = ast.unparse(node.args[1]) if len(node.args) > 1 else ""
            named = stream.startswith("Stream.") or stream in ("stream", "self.stream")
        elif name in ("default_rng", "RandomState", "manual_seed"):
            seed = ast.unparse(node.args[0]) if node.args else ""
            named = seed.startswith("mix(") or (name == "RandomState" and seed == "seed % 2 ** 32")
        else:
            continue
        if not named:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    "line",
    ["generator(seed, 3)", "generator(seed)", "seeded(0, WEIGHTS, step)", "np.random.default_rng(seed)",
     "torch.Generator().manual_seed(0)", "mix(seed, k)"],
)  # fmt: skip
def test_a_number_in_the_place_of_a_stream_is_found(line: str) -> None:
    assert unnamed(line)


def test_every_random_number_of_the_package_names_its_stream() -> None:
    found = {
        str(path.relative_to(PACKAGE)): calls
        for path in PACKAGE.rglob("*.py")
        if path.name != "noise.py" and (calls := unnamed(path.read_text(encoding="utf-8")))
    }
    assert found == {}
