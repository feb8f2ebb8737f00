"""Times one peer's k-means on rows in memory, as float32, from given centroids; prints one JSON line.

peer.py NAME ROWS.f16 DIMENSION CENTROIDS.f32 K ITERATIONS THREADS
"""
import json
import os
import sys
import time
import warnings

name, rows_path, dimension, centroids_path, k, iterations, threads = sys.argv[1:8]
dimension, k, iterations, threads = int(dimension), int(k), int(iterations), int(threads)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TBB_NUM_THREADS"):
    os.environ[variable] = str(threads)
warnings.filterwarnings("ignore")
import numpy as np

rows = np.fromfile(rows_path, np.float16).reshape(-1, dimension).astype(np.float32)
centroids = np.fromfile(centroids_path, np.float32).reshape(k, dimension)


def scikit_learn():
    from sklearn.cluster import KMeans

    model = KMeans(k, init=centroids, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    return lambda: model.fit(rows).cluster_centers_


def scikit_learn_intelex():
    from sklearnex.cluster import KMeans

    model = KMeans(k, init=centroids, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    return lambda: model.fit(rows).cluster_centers_


def faiss():
    import faiss

    faiss.omp_set_num_threads(threads)
    model = faiss.Kmeans(dimension, k, niter=iterations, nredo=1, max_points_per_centroid=len(rows) + 1,
                         min_points_per_centroid=1)

    def run():
        model.train(rows, init_centroids=centroids)
        return model.centroids

    return run


def superkmeans():
    # It takes no initial centroids; all else is the same: every row, every iteration.
    from superkmeans import SuperKMeans

    model = SuperKMeans(k, dimension, hierarchical=False, iters=iterations, sampling_fraction=1.0,
                        max_points_per_cluster=len(rows) + 1, n_threads=threads, early_termination=False)
    return lambda: np.asarray(model.train(rows))


run = {"scikit-learn": scikit_learn, "scikit-learn-intelex": scikit_learn_intelex, "faiss": faiss,
       "superkmeans": superkmeans}[name]()
start, cpu = time.perf_counter(), time.process_time()
found = run()
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu

inertia = 0.0
wide = found.astype(np.float64)
norms = (wide**2).sum(1)
for first in range(0, len(rows), 20000):
    part = rows[first : first + 20000].astype(np.float64)
    inertia += (((part**2).sum(1))[:, None] - 2 * part @ wide.T + norms).min(1).sum()
print(json.dumps({"seconds": round(seconds, 4), "cpu_seconds": round(cpu, 4), "inertia": inertia}))
