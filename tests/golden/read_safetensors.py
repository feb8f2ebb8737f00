#!/usr/bin/env python3
"""Checks our safetensors against the format's own library, both ways (see tests/pipeline/store/safetensors_test.cpp).

Usage: read_safetensors.py OURS THEIRS: reads OURS and compares it with what the test wrote, then writes THEIRS.
"""

import json
import struct
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def main(ours, theirs):
    with safe_open(ours, framework="np") as file:
        assert file.metadata() == {"format": "pt", "note": 'quote " and é'}, file.metadata()
        assert set(file.keys()) == {"a.bytes", "b.half", "c.float", "d.long", "e.scalar", "f.empty", "g.bool"}
        expected = {
            "a.bytes": np.array([1, 2, 3], np.uint8),
            "b.half": np.array([[0.5], [-2.0]], np.float16),
            "c.float": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]], np.float32),
            "d.long": np.array([-1, 1 << 40], np.int64),
            "e.scalar": np.array(7, np.int32),
            "f.empty": np.zeros((0, 5), np.float32),
            "g.bool": np.array([True, False, True]),
        }
        for name, value in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == value.dtype and found.shape == value.shape, (name, found.dtype, found.shape)
            np.testing.assert_array_equal(found, value)
    with open(ours, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    assert (8 + length) % 64 == 0
    assert header["d.long"]["data_offsets"] == [0, 16], header

    save_file(
        {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "mask": np.array([True, False, True])},
        theirs,
        metadata={"made by": "safetensors"},
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
