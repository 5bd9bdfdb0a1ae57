"""Small inputs as people really have them, made anew, each with what it should lead to: one table.

A case makes files in a folder and gives the keys of its dataset. It is read, with some facts of the block that says what was
read; or refused in one line that holds some words, before anything else happens.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.description import description_of, lines_of
from diffusion_cli.errors import UserError
from diffusion_cli.options.build import build_component
from diffusion_cli.options.files import node_of

RNG = np.random.default_rng(0)
RING = np.stack([10 * np.cos(np.arange(60.0)) + 50.5, 10 * np.sin(np.arange(60.0)) + 50.25], 1).round(3)
ROWS = [f"{x:.3f},{y:.3f}" for x, y in RING]
IMAGES = RNG.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


class Case(NamedTuple):
    """make: (folder) -> the keys of the dataset. facts: of the description. refused: words of the line, or None."""

    option: str
    make: Callable[[Path], dict[str, Any]]
    facts: dict[str, Any] = {}  # noqa: RUF012
    refused: str | None = None


def text(
    content: str, encoding: str = "utf-8", name: str = "points.csv", **keys: Any
) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content.encode(encoding))
        return {"path": str(folder / name), **keys}

    return make


def raw(content: bytes, name: str, key: str = "path", **keys: Any) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content)
        return {key: str(folder / name), **keys}

    return make


def array(value: Any, name: str = "a.npy", **keys: Any) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict[str, Any]:
        if isinstance(value, dict):
            np.savez(folder / name, **value)
        else:
            np.save(folder / name, value)
        return {"path": str(folder / name), **keys}

    return make


def images(
    *files: str, mode: str = "RGB", size: tuple[int, int] = (10, 10), **keys: Any
) -> Callable[[Path], dict]:
    """Files by their names within the folder; bad: damaged, html: another content, else an image; keys of the dataset."""

    def make(folder: Path) -> dict[str, Any]:
        root = folder / "data"
        for k, name in enumerate(files):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if "bad" in name:
                path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
            elif "html" in name:
                path.write_text("<!DOCTYPE html><html>404</html>")
            elif path.suffix.lower() in (".txt", ".db", ".heic", ".xml") or path.name.startswith("._"):
                path.write_bytes(b"x")
            else:
                kind = {".JPG": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}.get(
                    path.suffix, path.suffix[1:].upper()
                )
                Image.new(mode, size, k % 7).save(path, "JPEG" if kind == "JPG" else kind)
        return {"root": str(root), "image_size": 8, **keys}

    return make


def png(image: Image.Image, name: str = "a.png", **options: Any) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "data").mkdir()
        image.save(folder / "data" / name, **options)
        return {"root": str(folder / "data"), "image_size": 8, "test": 0}

    return make


def linked(folder: Path) -> dict[str, Any]:
    keys = images("real/0.png", "real/1.png", test=0)(folder)
    (folder / "elsewhere").mkdir()
    (folder / "data" / "real").rename(folder / "elsewhere" / "real")
    (folder / "data" / "real").symlink_to(folder / "elsewhere" / "real")
    return keys


def nowhere(folder: Path) -> dict[str, Any]:
    keys = images("0.png")(folder)
    (folder / "data" / "1.png").symlink_to(folder / "gone.png")
    return keys


def mixed(*, header: str = "", rows: list[str] = ROWS, end: str = "\n") -> str:
    return (header + end if header else "") + end.join(rows) + end


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        head = np.lib.format.header_data_from_array_1_0(np.zeros((1, 2)))
        with archive.open("a.npy", "w") as entry:
            np.lib.format.write_array_header_1_0(entry, head | {"shape": (2**26, 2)})
            entry.write(bytes(2**20))
    return stream.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 8
READ = {"points": 60, "kind": "plane"}
LABELLED = [f"{row},{k % 3}" for k, row in enumerate(ROWS)]
NUMBERED = [f"{k},{row}" for k, row in enumerate(ROWS)]
COMMA = [row.replace(",", ";").replace(".", ",") for row in ROWS]

CASES: dict[str, Case] = {
    # tables
    "scale100": Case("points", text(mixed()), {**READ, "held out": 0, "train": 60}),
    "first_row_na": Case("points", text("NA,2.0\n" + mixed()), refused="line 1, column 1 is NA"),
    "first_row_typo": Case("points", text("1.2.5,2.0\n" + mixed()), refused="line 1, column 1"),
    "one_point": Case("points", text("1.5,2.5\n"), refused="no spread"),
    "all_same": Case("points", text("1.5,2.5\n" * 9), refused="no spread"),
    "big_values": Case("points", text("1e20,1\n2e20,2\n"), refused="holds 2e+20"),
    "two_columns_tsv": Case("points", text(mixed(header="x,y").replace(",", "\t"), name="a.tsv"), READ),
    "dozen": Case(
        "points",
        text(mixed(header="dataset,x,y", rows=[f"dino,{r}" for r in ROWS])),
        refused="no numbers in dataset",
    ),
    "dozen_chosen": Case(
        "points",
        text(
            mixed(header="dataset,x,y", rows=[f"{'ab'[k % 2]},{r}" for k, r in enumerate(ROWS)]),
            columns=["x", "y"],
            where={"dataset": "a"},
        ),
        {"points": 30, "rows": 60},
    ),
    "labels": Case("points", text(mixed(header="x,y,label", rows=LABELLED)), refused="columns x, y, label"),
    "labels_chosen": Case(
        "points",
        text(mixed(header="x,y,label", rows=LABELLED), label="label"),
        {**READ, "columns": ["x", "y"]},
    ),
    "pandas_index": Case(
        "points", text(mixed(header=",x,y", rows=NUMBERED)), refused="dataset.columns=[x,y]"
    ),
    "r_rownames": Case(
        "points",
        text(mixed(header='"","x","y"', rows=[f'"{k}",{row}' for k, row in enumerate(ROWS)])),
        refused="dataset.columns=[x,y]",
    ),
    "decimal_comma": Case("points", text(mixed(header="x;y", rows=COMMA)), READ),
    "excel_sep": Case("points", text("sep=;\n" + mixed(header="x;y", rows=COMMA)), READ),
    "comments": Case("points", text("# one\n% two\n" + mixed(header="x,y")), READ),
    "hash_header": Case("points", text("# " + mixed(header="x,y")), READ),
    "quoted": Case(
        "points", text(mixed(header='"x","y"', rows=[f'"{r}"'.replace(",", '","') for r in ROWS])), READ
    ),
    "thousand": Case("points", text('x,y\n"1,234.5",2\n"2,345.5",3\n'), refused="thousands separator"),
    "cp1252": Case("points", text(mixed(header="Länge,Höhe"), "cp1252"), {**READ, "encoding": "cp1252"}),
    "utf16": Case("points", text(mixed(header="x,y"), "utf-16", "a.txt"), {**READ, "encoding": "utf-16"}),
    "trailing_comma": Case("points", text("x,y,\n1.5,2.5,\n2.5,3.5,\n"), refused="line 2, column 3 is empty"),
    "missing_later": Case("points", text(mixed() + "1.5,\n"), refused="line 61, column 2 is empty"),
    "one_d": Case(
        "points", text("x\n" + "\n".join(r.split(",")[0] for r in ROWS)), {"points": 60, "kind": "line"}
    ),
    "constant_column": Case("points", text("x,y\n" + "".join(f"0.{k},0\n" for k in range(60))), READ),
    "two_points_only": Case("points", text("1.5,2.5\n3.5,4.5\n"), {"points": 2, "held out": 0}),
    "marked_semicolons": Case(
        "points", text("\ufeff" + mixed(header="x;y", rows=COMMA)), {**READ, "encoding": "utf-8-sig"}
    ),
    "tabs_and_blanks": Case("points", text(mixed(rows=[r.replace(",", " \t ") for r in ROWS])), READ),
    "carriage_returns": Case("points", text(mixed(header="x,y", end="\r")), READ),
    "mixed_ends": Case("points", text(mixed(end="\r\n") + mixed()), {"points": 120}),
    "negative_zero": Case("points", text("-0.0,0\n0.0,1\n1.0,-0\n"), {"points": 3}),
    "tiny_scale": Case("points", array(RING * 1e-200), {"points": 60}),
    "infinite": Case("points", text("x,y\n0.5,inf\n1,2\n"), refused="line 2, column 2 (y) is inf"),
    "overflow": Case("points", text("x,y\n0.5,1e999\n1,2\n"), refused="not finite"),
    "huge": Case("points", text("1e308,0.5\n-1e308,0.25\n"), refused="too large for float32"),
    "header_of_numbers": Case("points", text("2020,2021\n" + mixed()), {"points": 61}),
    "same_names": Case(
        "points", text(mixed(header="x,x", rows=ROWS), columns=["x"]), refused="several columns are named x"
    ),
    "empty_file": Case("points", text(""), refused="shape (0"),
    "only_header": Case("points", text("x,y\n"), refused="shape (0"),
    "only_comments": Case("points", text("# nothing\n"), refused="shape (0"),
    "mixed_separators": Case("points", text("x,y\n1.5;2.5\n2.5,3.5\n"), refused="line 2"),
    "dates": Case(
        "points", text("day,x\n2024-01-02,1.5\n2024-01-03,2.5\n"), refused="'2024-01-02', no number"
    ),
    "percents": Case("points", text("x,y\n1.5%,2\n2.5%,3\n"), refused="'1.5%', no number"),
    "hexadecimal": Case("points", text("x,y\n0x1F,2\n0x2F,3\n"), refused="no numbers in x"),
    "units_in_cells": Case("points", text("x,y\n3 cm,2\n4 cm,3\n"), refused="no number"),
    "boolean": Case("points", text("x,y\nTrue,2.5\nFalse,3.5\n"), refused="no numbers in x"),
    "missing_words": Case("points", text("x,y\n1.5,2\nnan,3\n"), refused="line 3, column 1 (x) is nan"),
    "gzipped": Case(
        "points", raw(gzip.compress(mixed().encode()), "a.csv.gz"), refused="no file of this kind"
    ),
    "gzipped_inside": Case("points", raw(gzip.compress(mixed().encode()), "a.csv"), refused="no text"),
    "spreadsheet": Case("points", raw(b"PK\3\4" + bytes(60), "a.xlsx"), refused="no file of this kind"),
    "spreadsheet_as_csv": Case("points", raw(b"PK\3\4" + bytes(range(60)), "a.csv"), refused="no text"),
    # arrays of points
    "bigendian": Case("points", array(RING.astype(">f8")), READ),
    "fortran": Case("points", array(np.asfortranarray(RING)), READ),
    "int": Case("points", array((RING * 10).astype(int)), READ),
    "uint8": Case("points", array(RING.astype(np.uint8)), READ),
    "float16": Case("points", array(RING.astype(np.float16)), READ),
    "transposed": Case("points", array(RING.T.copy()), refused="transpose"),
    "leading1": Case("points", array(RING[None]), refused="(1, 60, 2)"),
    "structured": Case(
        "points", array(np.zeros(5, [("x", float), ("y", float)])), refused="not real numbers"
    ),
    "bool": Case("points", array(RING > 50), refused="bool"),
    "complex": Case("points", array(RING + 0j), refused="complex128"),
    "text_array": Case("points", array(RING.astype(str)), refused="not real numbers"),
    "object": Case("points", raw(pickle.dumps([1, 2]), "a.npy"), refused="cannot be read"),
    "X_and_y": Case("points", array({"X": RING, "y": RING[:, 0]}, "a.npz"), refused="2 arrays"),
    "bomb": Case("points", raw(bomb(), "a.npz"), refused="cannot be read"),
    "empty_array": Case("points", array(np.zeros((0, 2))), refused="shape (0, 2)"),
    "pickle": Case("points", raw(pickle.dumps(RING), "a.pkl"), refused="no file of this kind"),
    "torch": Case("points", raw(b"PK\3\4", "a.pt"), refused="no file of this kind"),
    "json": Case("points", raw(json.dumps(RING.tolist()).encode(), "a.json"), refused="no file of this kind"),
    # sets
    "sets_pixels": Case(
        "point_sets", array(300 + 50 * RNG.normal(size=(12, 9, 2))), {"sets": 12, "held out": 2}
    ),
    "ragged_sets": Case(
        "point_sets", array({f"s{k}": RING[: k + 5] for k in range(5)}, "a.npz"), refused="5 arrays"
    ),
    "sets_nan_padded": Case("point_sets", array(np.full((4, 5, 2), np.nan)), refused="not finite, in 4 of 4"),
    "one_set": Case("point_sets", array(RING[None]), refused="one set"),
    "sets_constant": Case("point_sets", array(np.ones((4, 5, 2))), refused="no spread"),
    # images
    "only_bmp": Case("image_folder", images(*(f"{k}.bmp" for k in range(6))), {"read": 6}),
    "capital_suffix": Case("image_folder", images("0.PNG", "1.JPG", "2.jpeg", "3.TIFF"), {"read": 4}),
    "capital_split": Case(
        "image_folder",
        images(*(f"{p}/{c}/{k}.png" for p in ("Train", "Test") for c in "ab" for k in range(3))),
        {"classes": {"a": 3, "b": 3}, "held out": 6},
    ),
    "valid_in_capitals": Case(
        "image_folder", images("train/0.png", "train/1.png", "VALIDATION/0.png"), {"train": 2, "held out": 1}
    ),
    "roboflow": Case(
        "image_folder",
        images(*(f"{p}/{k}.png" for p in ("train", "valid", "test") for k in range(2)), "README.txt"),
        {"train": 2, "left out": {"valid/": 2, ".txt": 1}},
    ),
    "images_masks": Case(
        "image_folder",
        images("images/0.png", "images/1.png", "masks/0.png", "masks/1.png", test=0),
        {"classes": {"images": 2, "masks": 2}},
    ),
    "nested_classes": Case(
        "image_folder", images("a/x/0.png", "a/y/1.png", "b/x/2.png", test=0), {"classes": {"a": 2, "b": 1}}
    ),
    "mac_zip": Case(
        "image_folder",
        images("cats/0.png", "cats/1.png", "__MACOSX/cats/._0.png"),
        {"read": 2, "left out": {"__MACOSX/": 1}},
    ),
    "hidden": Case(
        "image_folder", images("0.png", "1.png", ".2.png", "._0.png", ".DS_Store.db"), {"read": 2}
    ),
    "checkpoints_dir": Case(
        "image_folder",
        images("a/0.png", "b/1.png", ".ipynb_checkpoints/2.png", test=0),
        {"classes": {"a": 1, "b": 1}},
    ),
    "one_image": Case("image_folder", images("0.png"), refused="dataset.test=0"),
    "one_image_kept": Case("image_folder", images("0.png", test=0), {"train": 1, "held out": 0}),
    "three_bad": Case(
        "image_folder", images("0.png", "bad1.png", "bad2.png", "bad3.png"), refused="3 files cannot be read"
    ),
    "three_bad_skipped": Case(
        "image_folder",
        images("0.png", "1.png", "bad1.png", skip_damaged=True, test=0),
        {"read": 2, "left out": {"damaged": 1}},
    ),
    "empty_image": Case("image_folder", raw(b"", "data.png", "root"), refused="no such folder"),
    "html_as_jpg": Case("image_folder", images("0.png", "html.jpg"), refused="html.jpg: is no PNG"),
    "cmyk": Case("image_folder", images("0.jpg", "1.jpg", mode="CMYK"), refused="CMYK"),
    "grey_and_alpha": Case("image_folder", images("0.png", "1.png", mode="LA"), {"modes": {"LA": 2}}),
    "one_bit": Case("image_folder", images("0.png", "1.png", mode="1"), {"modes": {"1": 2}}),
    "wrong_suffix": Case("image_folder", png(Image.new("RGB", (9, 9)), "a.jpg", format="PNG"), {"read": 1}),
    "palette": Case("image_folder", png(Image.new("P", (9, 9)), transparency=0), {"modes": {"P": 1}}),
    "progressive": Case(
        "image_folder", png(Image.new("RGB", (9, 9)), "a.jpg", progressive=True), {"read": 1}
    ),
    "rotated": Case("image_folder", png(Image.new("RGB", (20, 9)), "a.jpg", exif=EXIF), {"sizes": "9 x 20"}),
    "grey16": Case(
        "image_folder", png(Image.fromarray(np.full((9, 9), 40_000, np.uint16))), {"black, white": [0, 65535]}
    ),
    "one_pixel": Case("image_folder", images("0.png", "1.png", size=(1, 1)), {"enlarged": 2}),
    "wide": Case("image_folder", images("0.png", "1.png", size=(900, 2)), {"sizes": "2 x 900"}),
    "heic": Case("image_folder", images("a.heic", "b.heic"), refused="it has .heic"),
    "link_to_a_folder": Case("image_folder", linked, {"read": 2}),
    "link_to_nowhere": Case("image_folder", nowhere, refused="leads nowhere"),
    "loose_images": Case(
        "image_folder", images("a/0.png", "b/1.png", "2.png"), refused="dataset.labels=false"
    ),
    "numeric_classes": Case(
        "image_folder",
        images(*(f"{k}/{n}.png" for k in (10, 2, 1) for n in range(2)), test=0),
        {"classes": {"1": 2, "2": 2, "10": 2}},
    ),
    "strange_names": Case(
        "image_folder", images("näme (1) = ü, [x]/画像.png", "näme (1) = ü, [x]/b.png"), {"read": 2}
    ),
    # arrays of images
    "medmnist": Case(
        "image_arrays",
        array(
            {
                "train_images": IMAGES,
                "train_labels": np.arange(10)[:, None] % 2,
                "val_images": IMAGES,
                "test_images": IMAGES,
                "test_labels": np.arange(10)[:, None] % 2,
            },
            "a.npz",
        ),
        {"train": 10, "held out": 10, "left out": {"val_images": 1}, "classes": {"0": 5, "1": 5}},
    ),
    "keras": Case(
        "image_arrays",
        array(
            {
                "x_train": IMAGES[..., 0],
                "y_train": np.arange(10) % 3,
                "x_test": IMAGES[:2, ..., 0],
                "y_test": np.arange(2),
            },
            "a.npz",
        ),
        {"shape": [1, 8, 8], "train": 10},
    ),
    "nhwc": Case("image_arrays", array(IMAGES), {"shape": [3, 8, 8]}),
    "nchw": Case("image_arrays", array(IMAGES.transpose(0, 3, 1, 2).copy()), {"shape": [3, 8, 8]}),
    "floats": Case("image_arrays", array(IMAGES.astype(float)), refused="dataset.range=[0,255]"),
    "floats_in_range": Case("image_arrays", array(IMAGES / 255, range=[0, 1]), {"black, white": [0, 1]}),
    "one_hot": Case(
        "image_arrays",
        array({"x_train": IMAGES, "y_train": np.eye(2)[np.arange(10) % 2]}, "a.npz"),
        refused="argmax",
    ),
    "float_labels": Case(
        "image_arrays",
        array({"x_train": IMAGES, "y_train": np.arange(10) % 2 * 1.0}, "a.npz", test=0),
        {"classes": {"0": 5, "1": 5}},
    ),
    "mismatched": Case(
        "image_arrays", array({"x_train": IMAGES, "y_train": np.arange(9)}, "a.npz"), refused="10 images"
    ),
    "no_images": Case("image_arrays", array(IMAGES[:0]), refused="(0, 8, 8, 3)"),
    "kaggle": Case(
        "image_arrays",
        text("label,pixel0,pixel1,pixel2,pixel3\n" + "1,0,9,0,255\n" * 4 + "0,1,1,1,1\n", test=0),
        {"shape": [1, 2, 2], "classes": {"0": 1, "1": 4}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_or_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    case = CASES[name]
    keys = case.make(tmp_path)
    config = {"dataset": node_of("dataset", case.option) | keys}
    if case.refused is not None:
        with pytest.raises(UserError) as caught:
            build_component(config, "dataset")
        line = str(caught.value)
        assert case.refused in line and "\n" not in line and line.startswith("dataset.")
        return
    data = build_component(config, "dataset")
    facts = description_of(data)
    assert case.facts.items() <= facts.items(), facts
    assert all(len(line) < 1000 for line in lines_of(facts).splitlines())
    batch = data.draw(4, torch.Generator().manual_seed(0))
    assert batch.x0.isfinite().all() and batch.x0.abs().max() < 1e3


@pytest.mark.parametrize("name", ["one_d", "constant_column", "two_points_only", "tiny_scale"])
def test_what_is_unusual_runs_to_its_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [f"dataset.{key}={value}" for key, value in CASES[name].make(tmp_path).items()]
    tiny = "steps=2 model.width=8 model.depth=1 stages.every=0 n=16 evaluation.n=20 evaluation.draws=1 evaluation.floor_draws=2"
    assert main(["train", "dataset=points", *keys, *tiny.split(), "hydra.run.dir=run"]) == 0
    assert len(list((tmp_path / "run" / "figures").iterdir())) >= 4
