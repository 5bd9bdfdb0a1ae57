"""Tables as people have them: read, or refused with the line and the column of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.point_file import read_points
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError

RING = np.stack([np.cos(np.arange(12.0)), np.sin(np.arange(12.0))], 1).round(3)


def table(
    separator: str = ",", header: str = "", comma: bool = False, before: str = "", quote: str = ""
) -> str:
    rows = [separator.join(f"{quote}{value:.3f}{quote}" for value in row) for row in RING]
    text = "\n".join(rows).replace(".", ",") if comma else "\n".join(rows)
    return before + (f"{header}\n" if header else "") + text + "\n"


# Content -> read as RING.
READ = {
    "plain": table(),
    "header": table(header="x,y"),
    "upper": table(header="X,Y"),
    "names": table(header="lon,lat"),
    "tabs": table("\t", "x\ty"),
    "blanks": table("   "),
    "semicolons": table(";", "x;y"),
    "pipes": table("|", "x|y"),
    "comma_blank": table(", ", "x, y"),
    "decimal_comma": table(";", "x;y", comma=True),
    "decimal_comma_tabs": table("\t", comma=True),
    "decimal_comma_blanks": table(" ", comma=True),
    "excel": table(";", "x;y", before="sep=;\n"),
    "comments": table(header="x,y", before="# one\n% two, with a comma\n\n"),
    "comment_between": table(header="x,y").replace("\n", "\n# here\n", 3),
    "hash_header": table(before="# x,y\n"),
    "hash_words": table(before="# made here, really\n"),
    "quoted": table(header='"x","y"', quote='"'),
    "quoted_semicolons": table(";", '"x";"y"', quote='"'),
    "windows": table(header="x,y").replace("\n", "\r\n"),
    "old_mac": table(header="x,y").replace("\n", "\r"),
    "no_last_end": table().rstrip("\n"),
    "empty_lines": table().replace("\n", "\n\n"),
    "plus_and_exponent": table().replace("0.000", "+0e-3"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_are_read_without_losing_a_row(tmp_path: Path, name: str, encoding: str) -> None:
    file = tmp_path / "points.csv"
    file.write_bytes(READ[name].encode(encoding))
    np.testing.assert_allclose(read_points(str(file)).points.numpy(), RING)


# Content -> what the line says.
REFUSED = {
    "NA,2.0\n" + table(): "line 1, column 1 is NA",
    "1.2.5,2.0\n" + table(): "line 1, column 1 is '1.2.5', no number",
    table(header="x,y") + "\n# so\n1.5,\n": "line 16, column 2 (y) is empty",
    "x,y,\n1.5,2.5,\n3.5,4.5,\n": "line 2, column 3 is empty",
    'x,y\n"1,234.5",2\n"2,345.5",3\n': "line 2, column 1 (x) is 1,234.5: a thousands separator",
    "x,y\n1.5,2.5\n1.5\n": "line 3 has 1 cells, the first has 2",
    "x\n1,5\n2,5\n": "line 2 has 2 cells, the first has 1; a decimal comma?",
    "x,y\n0.5,inf\n": "line 2, column 2 (y) is inf: missing, or not finite",
    "x,y\n0.5,1_000\n": "line 2, column 2 (y) is '1_000', no number",
    "x,y\n0.5,\u0663\n": "line 2, column 2 (y) is '\u0663', no number",
    "x,y\n1e20,0.5\n2e20,0.5\n": "holds 2e+20",
    "x,y\n0.5,0.25\n": "no spread",
    "x,y\n" + "0.5,0.25\n" * 9: "no spread",
    "x,y,label\n" + "".join(f"0.{k},0.2,{k % 2}\n" for k in range(9)): "columns x, y, label",
    "x,y,score\n" + "".join(f"0.{k},0.2,0.{k}5\n" for k in range(9)): "columns x, y, score",
    ",x,y\n" + "".join(f"{k},0.{k},0.2\n" for k in range(9)): "columns 1, x, y",
    "name,x,y\n" + "".join(f"dino,0.{k},0.2\n" for k in range(9)): "no numbers in name",
    "\0\1\2\3": "no text",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_may_be_wrong_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "points.csv"
    file.write_bytes(text.encode())
    with pytest.raises(ArgumentError) as caught:
        PointCloud(str(file))
    assert REFUSED[text] in str(caught.value) and "\n" not in str(caught.value)


def test_a_header_of_another_encoding_is_read(tmp_path: Path) -> None:
    file = tmp_path / "points.txt"
    file.write_bytes(table(header="Länge,Höhe µm").encode("cp1252"))
    read = read_points(str(file))
    assert read.about["encoding"] == "cp1252" and read.about["columns"] == ["Länge", "Höhe µm"]


def test_columns_rows_and_classes_are_chosen(tmp_path: Path) -> None:
    file = tmp_path / "dozen.csv"
    rows = [f"{'dino' if k % 3 else 'star'},{k % 11},{k}.5,-{k}.5" for k in range(40)]
    file.write_text("dataset,kind,x,y\n" + "\n".join(rows) + "\n")
    every = read_points(str(file), columns=["x", "y"])
    assert len(every.points) == 40 and every.points[3].tolist() == [3.5, -3.5]
    some = read_points(str(file), columns=["y"], where={"dataset": "star", "kind": 0})
    assert some.points.tolist() == [[-0.5], [-33.5]]
    # names that are numbers stand in the order of numbers, and the classes keep their names
    data = PointCloud(str(file), columns=["x", "y"], label="kind")
    assert data.class_names == tuple(map(str, range(11))) and data.num_classes == 11
    batch = data.draw(500, torch.Generator().manual_seed(0))
    assert batch.label is not None
    x = data.units.array(batch.x0)[:, 0] - 0.5
    assert ((x.round() % 11) == batch.label.numpy()).all()
    posterior = data.density.class_posterior(batch.x0, 1.0, 0.001).argmax(1)
    assert torch.equal(posterior, batch.label)
    for keys in ({"columns": ["x", "z"]}, {"label": "class"}, {"where": {"dataset": "cat"}}):
        with pytest.raises(ArgumentError) as caught:
            PointCloud(str(file), **{"columns": ["x", "y"]} | keys)
        assert caught.value.argument in keys


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize(("centre", "scale"), [(0.0, 27.0), (1e6, 1.0), (8.5, 1e-3), (-3e12, 1e9)])
def test_units_come_back_as_they_were(d: int, centre: float, scale: float) -> None:
    points = centre + scale * torch.randn(
        200, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    units = Units.of(points)
    x = units.inward(points).float()
    assert x.std().item() == pytest.approx(1, abs=0.01) and x.mean().abs().item() < 1e-6
    assert np.abs(units.array(x) - points.numpy()).max() < 2e-5 * scale


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 120)), "transpose"),
        (np.random.default_rng(0).standard_normal((2, 120)), "transpose"),
        (np.zeros((1, 120, 2)), "(1, 120, 2)"),
        (np.zeros(5, [("x", float), ("y", float)]), "not real numbers"),
        (np.zeros((9, 2), bool), "not real numbers"),
        (np.array([[1, 2], [3]], object), "objects"),
    ],
)
def test_arrays_that_are_no_points_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "points.npy", array)
    with pytest.raises(ArgumentError) as caught:
        PointCloud(str(tmp_path / "points.npy"))
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", [">f8", "<f4", "i2", "u1"])
def test_arrays_of_any_numbers_are_read(tmp_path: Path, kind: str) -> None:
    array = np.asfortranarray((np.arange(24).reshape(12, 2) * 7 % 50).astype(kind))
    np.save(tmp_path / "points.npy", array)
    assert np.array_equal(read_points(str(tmp_path / "points.npy")).points, array)
