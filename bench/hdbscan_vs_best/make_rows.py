"""Writes the rows that bench/hdbscan_vs_best clusters, as raw float16.

    make_rows.py OUT.f16 ROWS DIMENSION [SHARD.h5 ...]

With shards: hidden values after the GELU of the first recorded layer; rows are taken evenly over the shards' rows.
DIMENSION below the layer's width: their principal components. Without shards: a seeded mixture of 30 Gaussians and 3 %
scattered rows.
"""

import sys

import numpy as np


def from_shards(count, dimension, paths):
    import h5py

    parts = []
    for path in paths:
        with h5py.File(path) as shard:
            layers = sorted(shard["layers"], key=int)
            layer = next(layer for layer in layers if "h" in shard[f"layers/{layer}"])
            parts.append(shard[f"layers/{layer}/h"][:])
    rows = np.concatenate(parts)
    rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)].astype(np.float64)
    if dimension < rows.shape[1]:
        rows -= rows.mean(0)
        _, vectors = np.linalg.eigh(rows.T @ rows)
        rows = rows @ vectors[:, ::-1][:, :dimension]
    return rows


def mixture(count, dimension):
    random = np.random.default_rng(1)
    centres = random.normal(0, 1, (30, dimension))
    rows = centres[random.integers(30, size=count)] + random.normal(0, 0.5, (count, dimension))
    scattered = random.random(count) < 0.03
    rows[scattered] = random.normal(0, 1.5, (scattered.sum(), dimension))
    return rows


def main():
    out, count, dimension, shards = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    rows = from_shards(count, dimension, shards) if shards else mixture(count, dimension)
    rows.astype(np.float16).tofile(out)


if __name__ == "__main__":
    main()
