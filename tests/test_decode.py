"""Image files: cropped, resized and converted as an independent hand would, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.dataset.decode import AT_ONCE, Deeper, Form, decode, decode_all
from diffusion_cli.errors import ArgumentError


def smooth(height, width, channels=3):
    """A picture (height, width, channels) with soft and sharp parts."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(channels)]
    picture = 127 + 90 * np.stack(waves, -1) + 30 * ((x // 40 + y // 30) % 2)[..., None]
    return picture.clip(0, 255).round().astype(np.uint8)


def save(path, array, **options):
    Image.fromarray(array.squeeze()).save(path, **options)
    return path


def refused(file, *parts):
    with pytest.raises(ArgumentError) as caught:
        decode(file, Form(8, 8, 3))
    assert str(caught.value).startswith(f"root: {file}: ")
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 512), (512, 417), (33, 32), (20, 26)])
def test_crop_and_resize_equal_torchs_antialiased_bicubic(tmp_path, height, width):
    picture = smooth(height, width)
    read = decode(save(tmp_path / "a.png", picture), Form(32, 32, 3))
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = torch.from_numpy(picture[top : top + side, left : left + side]).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(crop, (32, 32), mode="bicubic", antialias=True)[0].clamp(
        0, 255
    )
    assert read.shape == (3, 32, 32) and read.dtype == np.uint8
    assert np.abs(read - expected.numpy()).max() <= 1.01  # either pass of Pillow's rounds


def test_an_image_of_the_size_is_left_as_it_is(tmp_path):
    picture = smooth(32, 32)
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
        read = decode(save(tmp_path / name, picture, **options), Form(32, 32, 3))
        np.testing.assert_array_equal(read.transpose(1, 2, 0), picture)
    close = decode(save(tmp_path / "a.jpg", picture, quality=98, subsampling=0), Form(32, 32, 3)).transpose(
        1, 2, 0
    )
    assert 0 < np.abs(close.astype(int) - picture).max() <= 8


def test_grey_and_colour(tmp_path):
    picture = smooth(16, 16)
    grey = decode(save(tmp_path / "rgb.png", picture), Form(16, 16, 1))
    luma = picture @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (1, 16, 16) and np.abs(grey[0] - luma).max() <= 0.51
    one = picture[..., 0]
    file = save(tmp_path / "grey.png", one)
    np.testing.assert_array_equal(decode(file, Form(16, 16, 1))[0], one)
    np.testing.assert_array_equal(decode(file, Form(16, 16, 3)), np.stack([one] * 3))


def test_a_palette_shows_its_colours(tmp_path):
    palette = Image.fromarray(smooth(16, 16)).quantize(16)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "a.png", Form(16, 16, 3)).transpose(1, 2, 0), np.asarray(palette.convert("RGB"))
    )


def test_transparency_lies_over_white(tmp_path):
    picture = np.dstack((smooth(16, 16), np.full((16, 16), 255, np.uint8)))
    picture[:, 4:8, 3], picture[:, 8:, 3] = 128, 0
    read = decode(save(tmp_path / "rgba.png", picture), Form(16, 16, 3)).transpose(1, 2, 0)
    share = picture[..., 3:] / 255
    assert np.abs(read - (share * picture[..., :3] + (1 - share) * 255)).max() <= 1
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "p.png", transparency=2)
    read = decode(tmp_path / "p.png", Form(2, 2, 3)).transpose(1, 2, 0)
    assert read.tolist() == [[[10, 20, 30], [40, 50, 60]], [[255] * 3, [100, 110, 120]]]


def test_exif_turns(tmp_path):
    picture = smooth(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    read = decode(save(tmp_path / "a.png", picture, exif=exif), Form(48, 48, 3))
    np.testing.assert_array_equal(read.transpose(1, 2, 0), np.rot90(picture[8:56], -1))


def test_many_keep_their_order(tmp_path):
    files = [save(tmp_path / f"{k}.png", np.full((3, 3), k % 256, np.uint8)) for k in range(3 * AT_ONCE + 5)]
    read = np.concatenate(list(decode_all(files, Form(2, 2, 1))))
    assert read[:, 0, 0, 0].tolist() == [k % 256 for k in range(len(files))]


def test_the_first_bad_file_of_many_is_named(tmp_path):
    files = [save(tmp_path / f"{k}.png", np.zeros((3, 3), np.uint8)) for k in range(2 * AT_ONCE)]
    files[AT_ONCE + 3].write_bytes(b"no")
    with pytest.raises(
        ArgumentError, match=f"{AT_ONCE + 3}.png: is no PNG, JPEG, WEBP, BMP, GIF or TIFF image"
    ):
        list(decode_all(files, Form(2, 2, 1)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_truncated_images_are_refused(tmp_path, suffix, share):
    file = save(tmp_path / f"a.{suffix}", smooth(200, 200))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refused(file)


def test_damaged_pixels_are_refused(tmp_path):
    file = save(tmp_path / "a.png", smooth(100, 100))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    refused(file)


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png")


def test_other_formats_are_refused_whatever_their_name(tmp_path):
    Image.fromarray(smooth(8, 8)).save(tmp_path / "a.ppm")
    refused((tmp_path / "a.ppm").rename(tmp_path / "a.png"), "is no PNG, JPEG, WEBP, BMP, GIF or TIFF image")


@pytest.mark.parametrize(
    ("mode", "name"), [("CMYK", "a.jpg"), ("F", "a.tif"), ("I", "a.tif"), ("LAB", "a.tif")]
)
def test_colours_that_need_guessing_are_refused(tmp_path, mode, name):
    Image.new(mode, (16, 16)).save(tmp_path / name)
    refused(tmp_path / name, f"is in mode {mode}; convert it to RGB or grey")


def deep_png(array, turned=None):
    """The bytes of a PNG of 16 bits, by the format's own description: (H, W, C), C = 1 grey, 2 with alpha, 3 RGB, 4 RGBA."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, colours = array.shape
    head = struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[colours - 1], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in array))
    exif = Image.Exif()
    exif[0x0112] = turned or 1
    more = chunk(b"eXIf", exif.tobytes()[6:])
    ends = chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + ends[0] + ends[1]


@pytest.mark.parametrize("colours", [1, 3, 4])
def test_sixteen_bits_are_read_in_full(tmp_path, colours):
    array = np.random.default_rng(0).integers(0, 65536, (5, 7, colours)).astype(np.uint16)
    if colours == 4:
        array[..., 3] = np.where(np.arange(7) < 4, 65535, 0)
    (tmp_path / "a.png").write_bytes(deep_png(array))
    (tmp_path / "b.png").write_bytes(deep_png(array, turned=6))
    with pytest.raises(Deeper):
        decode(tmp_path / "a.png", Form(5, 7, 3))
    read = decode(tmp_path / "a.png", Form(5, 7, 3, bits=16))
    expected = np.broadcast_to(array[..., :3], (5, 7, 3)).copy()
    if colours == 4:
        expected[:, 4:] = 65535
    assert read.dtype == np.uint16 and np.array_equal(read.transpose(1, 2, 0), expected)
    turned = decode(tmp_path / "b.png", Form(7, 5, 3, bits=16))
    assert np.array_equal(turned.transpose(1, 2, 0), np.rot90(expected, -1))
    grey = decode(tmp_path / "a.png", Form(5, 7, 1, bits=16))[0]
    assert np.abs(grey - expected @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def test_bytes_among_sixteen_bits_are_spread_over_their_range(tmp_path):
    picture = smooth(9, 9)
    read = decode(save(tmp_path / "a.png", picture), Form(9, 9, 3, bits=16))
    assert read.dtype == np.uint16 and np.array_equal(read.transpose(1, 2, 0), picture.astype(int) * 257)


def test_sixteen_bits_that_cannot_be_read_in_full_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(deep_png(np.zeros((4, 4, 2), np.uint16)))
    refused(tmp_path / "a.png", "has 16 bits a colour (LA;16B)", "convert it")


@pytest.mark.parametrize("size", [(30, 40), (40, 30), (16, 16), (7, 40), (80, 100)])
def test_an_image_is_cropped_padded_or_stretched(tmp_path, size):
    height, width = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(40, 240, height)[:, None]
    ramp[..., 1] = np.linspace(40, 240, width)
    file = save(tmp_path / "a.png", ramp)
    crop, pad, stretch = (decode(file, Form(12, 20, 3, how)) for how in ("crop", "pad", "stretch"))
    assert crop.shape == pad.shape == stretch.shape == (3, 12, 20)
    # stretched, either end of both ramps is there
    ends = stretch[0, [0, -1]].mean(1), stretch[1][:, [0, -1]].mean(0)
    assert all(np.abs(end - [40, 240]).max() < 20 for end in ends)
    # cropped, one ramp is whole, and the steps of both are those of one scale
    scale = max(12 / height, 20 / width)
    for colour, side, n in ((0, height, 12), (1, width, 20)):
        line = crop[colour].mean(1 - colour)
        assert line[-1] - line[0] == pytest.approx(200 / (side - 1) * (n - 1) / scale, abs=12)
    # padded, what is not black has the form of the image
    shown = (pad[0] > 20) & (pad[1] > 20)
    rows, columns = shown.any(1).sum(), shown.any(0).sum()
    assert abs(rows - min(12, 20 * height / width)) <= 1 and abs(columns - min(20, 12 * width / height)) <= 1
    assert shown.sum() == rows * columns


@pytest.mark.parametrize("side", [8200, 10_000, 20_000])
def test_bombs_are_refused_unopened(tmp_path, side):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)  # one bit a pixel
    packed = zlib.compress(bytes(side * (side // 8 + 1)), 1)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    assert len(content) < 10**6
    with pytest.raises(
        ArgumentError, match=r"bomb.png: (has|\d+ x \d+ pixels,) more than 67108864( pixels)?$"
    ):
        list(decode_all([tmp_path / "bomb.png"], Form(8, 8, 3)))
