"""Image files: cropped, resized and converted as an independent hand would, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.dataset.decode import AT_ONCE, decode, decode_all
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
        decode(file, 8, 3)
    assert str(caught.value).startswith(f"root: {file}: ")
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 512), (512, 417), (33, 32), (20, 26)])
def test_crop_and_resize_equal_torchs_antialiased_bicubic(tmp_path, height, width):
    picture = smooth(height, width)
    read = decode(save(tmp_path / "a.png", picture), 32, 3)
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
        read = decode(save(tmp_path / name, picture, **options), 32, 3)
        np.testing.assert_array_equal(read.transpose(1, 2, 0), picture)
    close = decode(save(tmp_path / "a.jpg", picture, quality=98, subsampling=0), 32, 3).transpose(1, 2, 0)
    assert 0 < np.abs(close.astype(int) - picture).max() <= 8


def test_grey_and_colour(tmp_path):
    picture = smooth(16, 16)
    grey = decode(save(tmp_path / "rgb.png", picture), 16, 1)
    luma = picture @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (1, 16, 16) and np.abs(grey[0] - luma).max() <= 0.51
    one = picture[..., 0]
    file = save(tmp_path / "grey.png", one)
    np.testing.assert_array_equal(decode(file, 16, 1)[0], one)
    np.testing.assert_array_equal(decode(file, 16, 3), np.stack([one] * 3))


def test_a_palette_shows_its_colours(tmp_path):
    palette = Image.fromarray(smooth(16, 16)).quantize(16)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "a.png", 16, 3).transpose(1, 2, 0), np.asarray(palette.convert("RGB"))
    )


def test_transparency_lies_over_white(tmp_path):
    picture = np.dstack((smooth(16, 16), np.full((16, 16), 255, np.uint8)))
    picture[:, 4:8, 3], picture[:, 8:, 3] = 128, 0
    read = decode(save(tmp_path / "rgba.png", picture), 16, 3).transpose(1, 2, 0)
    share = picture[..., 3:] / 255
    assert np.abs(read - (share * picture[..., :3] + (1 - share) * 255)).max() <= 1
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "p.png", transparency=2)
    read = decode(tmp_path / "p.png", 2, 3).transpose(1, 2, 0)
    assert read.tolist() == [[[10, 20, 30], [40, 50, 60]], [[255] * 3, [100, 110, 120]]]


def test_exif_turns(tmp_path):
    picture = smooth(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    read = decode(save(tmp_path / "a.png", picture, exif=exif), 48, 3)
    np.testing.assert_array_equal(read.transpose(1, 2, 0), np.rot90(picture[8:56], -1))


def test_many_keep_their_order(tmp_path):
    files = [save(tmp_path / f"{k}.png", np.full((3, 3), k % 256, np.uint8)) for k in range(3 * AT_ONCE + 5)]
    read = np.concatenate(list(decode_all(files, 2, 1)))
    assert read[:, 0, 0, 0].tolist() == [k % 256 for k in range(len(files))]


def test_the_first_bad_file_of_many_is_named(tmp_path):
    files = [save(tmp_path / f"{k}.png", np.zeros((3, 3), np.uint8)) for k in range(2 * AT_ONCE)]
    files[AT_ONCE + 3].write_bytes(b"no")
    with pytest.raises(
        ArgumentError, match=f"{AT_ONCE + 3}.png: is no PNG, JPEG, WEBP, BMP, GIF or TIFF image"
    ):
        list(decode_all(files, 2, 1))


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


@pytest.mark.parametrize("mode", ["CMYK", "I;16"])
def test_colours_that_need_guessing_are_refused(tmp_path, mode):
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (16, 16)).save(file)
    refused(file, f"is in mode {mode}; convert it to RGB or 8-bit grey")


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
        list(decode_all([tmp_path / "bomb.png"], 8, 3))
