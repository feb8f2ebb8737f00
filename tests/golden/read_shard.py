#!/usr/bin/env python3
"""Reads the example shard of tests/pipeline/store/shard_fixture.h with h5py and compares it with the formula it is made by.

Usage: read_shard.py SHARD.h5; exit code 0 if all is as expected.
"""

import sys

import h5py
import numpy as np


def expected(layer, tap, rows, width):
    row, column = np.arange(rows)[:, None], np.arange(width)[None, :]
    return ((row * 7 + column * 3 + layer * 5 + (tap == "h")) % 512) / 8 - 16


def main(path):
    # The three lines of docs/formats.md.
    with h5py.File(path) as shard:
        h = shard["layers/2/h"][:]
        images, tokens = shard["rows/image"][:], shard["rows/token"][:]

    assert h.dtype == np.float16 and h.shape == (30, 24), (h.dtype, h.shape)
    np.testing.assert_array_equal(h, expected(2, "h", 30, 24))
    counts = [i % 4 for i in range(20)]
    assert images.dtype == np.int64 and tokens.dtype == np.int32
    np.testing.assert_array_equal(images, np.repeat(100 + 2 * np.arange(20), counts))
    np.testing.assert_array_equal(tokens, np.concatenate([2 * np.arange(n) for n in counts]))

    with h5py.File(path) as shard:
        assert sorted(shard["layers"]) == ["0", "2", "7"]
        assert sorted(shard["layers/0"]) == ["h"] and sorted(shard["layers/7"]) == ["x"]
        for layer, tap, width in ((2, "x", 6), (0, "h", 5), (7, "x", 3)):
            np.testing.assert_array_equal(shard[f"layers/{layer}/{tap}"][:], expected(layer, tap, 30, width))
        assert list(shard["images/id"].asstr()[:]) == [f"n0/é_{i * i}" for i in range(20)]
        np.testing.assert_array_equal(shard["images/index"][:], 100 + 2 * np.arange(20))
        np.testing.assert_array_equal(shard["images/label"][:], np.arange(20))
        attributes = dict(shard.attrs)
        texts = {key: attributes.pop(key).decode() for key in ("format", "model_hash", "data_fingerprint")}
        assert texts == {"format": "moextract-activations", "model_hash": "0123abcd", "data_fingerprint": "images"}, texts
        lists = {key: attributes.pop(key).tolist() for key in ("layers", "x_width", "h_width")}
        assert lists == {"layers": [2, 0, 7], "x_width": [6, 0, 3], "h_width": [24, 5, 0]}, lists
        assert attributes == {"format_version": 1, "seed": 17, "first_image": 100, "image_count": 60}, attributes


if __name__ == "__main__":
    main(sys.argv[1])
