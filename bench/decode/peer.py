"""Decode, resize and crop as torchvision and Pillow do, on one thread, of pictures whose bytes are in memory.

Usage: peer.py FOLDER RESIZE shorter|squash bicubic|bilinear CROP ROUNDS OUTPUT
Prints images/s of the best round; OUTPUT gets the crops, one after the other.
"""

import io
import pathlib
import sys
import time

import torch
from PIL import Image
from torchvision import transforms


def main():
    folder, resize, mode, filter_name, crop, rounds, output = sys.argv[1:]
    torch.set_num_threads(1)
    size = (int(resize), int(resize)) if mode == "squash" else int(resize)
    transform = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode(filter_name)),
            transforms.CenterCrop(int(crop)),
        ]
    )
    files = [path.read_bytes() for path in sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())]
    best = float("inf")
    for _ in range(int(rounds)):
        start = time.perf_counter()
        crops = [transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
        best = min(best, time.perf_counter() - start)
    with open(output, "wb") as out:
        for image in crops:
            out.write(image.tobytes())
    print(len(files) / best)


if __name__ == "__main__":
    main()
