"""Makes tests/golden/images and tests/golden/image_goldens.txt: what Pillow makes of pictures of every kind we read.

Run by hand when a kind is added, in an environment with NumPy and a Pillow before 13: Pillow 13 resizes vertically
first when the height shrinks much more than the width (python-pillow/Pillow#9549), which gives other last bits than the
versions that today's models were trained and measured with.

    python tests/golden/make_image_goldens.py [--data FOLDER] [--real N]

--data is the folder that tests know as MOEXTRACT_TEST_DATA; of its pictures only checksums are stored. --real is how
many of each real set are taken. Without --data the lines for real pictures are left out, so give it before committing.
"""

import argparse
import io
import pathlib
import struct
import tarfile
import zlib

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def scene(width, height, channels, seed=1):
    """Smooth shades, hard edges and noise, so that every filter tap and every clipping counts."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for channel in range(channels):
        plane = 127.5 + 127.5 * np.sin(x / (5.0 + channel) + y / (7.0 - channel))
        plane[(x // 9 + y // 11) % 3 == 0] = 255 * (channel % 2)
        plane += random.normal(0, 12, plane.shape)
        planes.append(np.clip(plane, 0, 255).astype(np.uint8))
    return np.stack(planes, axis=-1) if channels > 1 else planes[0]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """samples [height, width, channels] as PNG's filterless rows."""
    rows = b""
    for row in samples:
        if depth == 16:
            data = row.astype(">u2").tobytes()
        elif depth == 8:
            data = row.astype(np.uint8).tobytes()
        else:
            bits = (row.reshape(-1, 1).astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
            data = np.packbits(bits.reshape(-1)).tobytes()
        rows += b"\0" + data
    return rows


def write_png(name, samples, depth, colour_type, extra=b"", interlaced=False):
    """Pillow does not write all that it reads: 2-bit greyscale, 16-bit colour, interlacing."""
    samples = samples.reshape(samples.shape[0], samples.shape[1], -1)
    height, width = samples.shape[:2]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        parts = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in passes]
        raw = b"".join(pack_rows(part, depth) for part in parts if part.size)
    else:
        raw = pack_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 9))
    (HERE / "images" / name).write_bytes(data + chunk(b"IEND", b""))


def make_images():
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    rgb, grey, cmyk = Image.fromarray(scene(61, 43, 3)), Image.fromarray(scene(50, 37, 1)), scene(35, 29, 4)
    rgb.save(folder / "colour_420.jpg", quality=85)
    rgb.save(folder / "colour_422.jpg", quality=70, subsampling=1)
    rgb.save(folder / "colour_444.jpg", quality=95, subsampling=0)
    rgb.save(folder / "progressive.jpg", quality=80, progressive=True)
    rgb.save(folder / "restart_markers.jpg", quality=60, restart_marker_blocks=2)
    grey.save(folder / "grey.jpg", quality=80)
    grey.save(folder / "grey_progressive.jpg", quality=80, progressive=True)
    Image.fromarray(cmyk, "CMYK").save(folder / "cmyk.jpg", quality=80)
    # Pillow writes CMYK only; with the transform byte of its Adobe marker at 2 the same samples are read as YCCK.
    data = bytearray((folder / "cmyk.jpg").read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    (folder / "ycck.jpg").write_bytes(data)
    # Without the marker, too, Pillow takes the samples as inverted.
    data = (folder / "cmyk.jpg").read_bytes()
    start = data.index(b"Adobe") - 4
    (folder / "cmyk_without_marker.jpg").write_bytes(data[:start] + data[start + 16 :])

    rgb.save(folder / "colour.png")
    grey.save(folder / "grey.png")
    grey.convert("LA").save(folder / "grey_alpha.png")
    Image.fromarray(scene(33, 27, 4, seed=2), "RGBA").save(folder / "alpha.png")
    rgb.quantize(200).save(folder / "palette.png")
    rgb.quantize(13).save(folder / "palette_4bit.png")
    rgb.quantize(40).save(folder / "palette_transparent.png", transparency=3)
    for depth in (1, 2, 4):
        write_png(f"grey_{depth}bit.png", scene(37, 21, 1) >> (8 - depth), depth, 0)
    ramp = np.arange(31 * 19, dtype=np.uint16).reshape(19, 31)
    write_png("grey_16bit.png", ramp, 16, 0)
    write_png("grey_alpha_16bit.png", np.stack([ramp * 100, ramp], axis=-1), 16, 4)
    write_png("colour_16bit.png", np.stack([ramp * 111, ramp * 77, ramp * 3], axis=-1), 16, 2)
    write_png("alpha_16bit.png", np.stack([ramp * 111, ramp * 77, ramp * 3, ramp], axis=-1), 16, 6)
    write_png("colour_key.png", scene(23, 17, 3), 8, 2, chunk(b"tRNS", struct.pack(">HHH", 0, 255, 0)))
    write_png("interlaced.png", scene(29, 23, 3, seed=3), 8, 2, interlaced=True)
    palette = chunk(b"PLTE", bytes(range(10, 100, 10)))
    alpha = chunk(b"tRNS", bytes([0, 128, 255]))
    write_png("palette_2bit_alpha.png", scene(26, 15, 1) >> 6, 2, 3, palette + alpha)  # index 3 is beyond the palette
    write_png("palette_interlaced.png", scene(26, 15, 1) >> 7, 1, 3, palette, interlaced=True)


def checksum(array):
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def preprocessed(image, mode, size, name, crop, channels, mean, std):
    """What torchvision's Resize, CenterCrop, ToTensor and Normalize do, in Pillow and NumPy."""
    width, height = image.size
    if size:
        if mode == "squash":
            image = image.resize((size, size), FILTERS[name])
        elif width <= height:
            image = image.resize((size, int(size * height / width)), FILTERS[name])
        else:
            image = image.resize((int(size * width / height), size), FILTERS[name])
    width, height = image.size
    if crop > width or crop > height:
        canvas = Image.new("RGB", (max(width, crop), max(height, crop)))
        canvas.paste(image, (max(crop - width, 0) // 2, max(crop - height, 0) // 2))
        image = canvas
        width, height = image.size
    top, left = int(round((height - crop) / 2.0)), int(round((width - crop) / 2.0))
    image = image.crop((left, top, left + crop, top + crop))
    array = np.asarray(image.convert("L"))[..., None] if channels == 1 else np.asarray(image)
    value = array.astype(np.float32) / np.float32(255)
    value = (value - np.asarray(mean[:channels], np.float32)) / np.asarray(std[:channels], np.float32)
    return value.transpose(2, 0, 1)


def lines_for(key, image, sizes):
    image = image.convert("RGB")
    width, height = image.size
    yield f"decode {key} {width} {height} {checksum(np.asarray(image))}"
    for name, method in FILTERS.items():
        for w, h in sizes(width, height):
            yield f"resize {key} {name} {w} {h} {checksum(np.asarray(image.resize((w, h), method)))}"


def small_sizes(w, h):
    return [(w // 2, h // 2), (2 * w + 1, 3 * h - 1), (1, 1), (w, 17), (19, h), (200, 3), (5, 90), (w - 1, h + 1)]


def real_sizes(w, h):
    return [(248, int(248 * h / w)) if w <= h else (int(248 * w / h), 248), (256, 256)]


PREPROCESS = [
    ("shorter", 32, "bicubic", 28), ("shorter", 33, "bilinear", 28), ("squash", 24, "bilinear", 24),
    ("shorter", 0, "bicubic", 48), ("shorter", 0, "bicubic", 75), ("squash", 21, "bicubic", 30),
    ("shorter", 27, "bicubic", 20),
]


def preprocess_lines():
    for file in ("colour.png", "interlaced.png", "grey.png"):
        image = Image.open(HERE / "images" / file).convert("RGB")
        for mode, size, name, crop in PREPROCESS:
            for channels in (3, 1):
                mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
                value = preprocessed(image, mode, size, name, crop, channels, mean, std)
                yield f"preprocess images/{file} {mode} {size} {name} {crop} {channels} {checksum(value)}"


def real_lines(data, count):
    files = sorted((data / "nips17-mini200" / "images").iterdir())
    for file in files[:: max(1, len(files) // count)][:count]:
        yield from lines_for(f"nips17-mini200/images/{file.name}", Image.open(file), real_sizes)
    archive = data / "tiny-imagenet-200" / "val_first_5000.tar"
    with tarfile.open(archive) as tar:
        members = sorted(m.name for m in tar.getmembers() if m.isfile())
        chosen = members[:: max(1, len(members) // count)][:count]
        grey = [m for m in members if Image.open(tar.extractfile(m)).mode == "L"]
        for member in chosen + [m for m in grey[:3] if m not in chosen]:
            image = Image.open(io.BytesIO(tar.extractfile(member).read()))
            yield from lines_for(f"tiny-imagenet-200/val_first_5000.tar:{member}", image, real_sizes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--real", type=int, default=10)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "image_goldens.txt")
    arguments = parser.parse_args()
    if int(PIL.__version__.split(".")[0]) >= 13:
        parser.error(f"this is Pillow {PIL.__version__}; install pillow<13 (see above)")
    make_images()
    lines = [
        f"# Made by make_image_goldens.py with Pillow {PIL.__version__}, NumPy {np.__version__}; CRC-32 of the samples",
        "# (decode, resize: 8-bit RGB; preprocess: float32 [channels, crop, crop], little-endian).",
        "# decode FILE WIDTH HEIGHT CRC | resize FILE FILTER WIDTH HEIGHT CRC",
        "# preprocess FILE MODE RESIZE FILTER CROP CHANNELS CRC (mean and std of ImageNet)",
    ]
    for file in sorted((HERE / "images").iterdir()):
        lines += lines_for(f"images/{file.name}", Image.open(file), small_sizes)
    lines += preprocess_lines()
    if arguments.data:
        lines += real_lines(arguments.data, arguments.real)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
