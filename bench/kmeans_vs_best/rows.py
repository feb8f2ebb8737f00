"""Takes the first N rows of one layer's h out of activation shards, as plain float16, and draws initial centroids.

rows.py FOLDER LAYER N OUT.f16 K...   writes OUT.f16 and OUT.K.f32 for each K
"""
import glob
import sys

import h5py
import numpy as np

folder, layer, count, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
parts, have = [], 0
for path in sorted(glob.glob(folder + "/shard-*.h5")):
    with h5py.File(path) as shard:
        parts.append(shard[f"layers/{layer}/h"][: count - have])
    have += len(parts[-1])
    if have == count:
        break
rows = np.concatenate(parts)
if len(rows) < count:
    sys.exit(f"{folder} holds {len(rows)} rows, but {count} are needed: collect more images or tokens")
rows.tofile(out)
for k in map(int, sys.argv[5:]):
    chosen = np.sort(np.random.default_rng(k).choice(count, k, replace=False))
    rows[chosen].astype(np.float32).tofile(f"{out}.{k}.f32")
print(f"{len(rows)} x {rows.shape[1]} {rows.dtype}", file=sys.stderr)
