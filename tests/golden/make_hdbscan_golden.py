"""Makes tests/golden/hdbscan_golden.txt: small data sets and what the Python package hdbscan says of them.

    python tests/golden/make_hdbscan_golden.py

Run by hand when a case is added, in an environment with hdbscan 0.8.44 and scikit-learn.

For each case the file has the labels of the package as a user calls it ("native"), and what the package's own tree
functions make of OUR spanning tree order: edges by (weight, smaller row, greater row). Core distances make ties common,
the package leaves the order of tied merges to its sort, and labels, probabilities and scores of single rows depend on
it. With the order fixed every number can be compared.
"""

import pathlib

import hdbscan
import numpy as np
from hdbscan._hdbscan_linkage import label as single_linkage
from hdbscan._hdbscan_tree import compute_stability, condense_tree, get_clusters, outlier_scores
from sklearn.datasets import make_blobs, make_moons

HERE = pathlib.Path(__file__).resolve().parent


def data_sets():
    random = np.random.default_rng(7)
    blobs, _ = make_blobs(150, 6, centers=4, cluster_std=[0.6, 1.0, 1.6, 0.8], random_state=3)
    moons, _ = make_moons(170, noise=0.07, random_state=5)
    skewed, _ = make_blobs(160, 2, centers=3, random_state=170)
    skewed = skewed @ np.array([[0.60834549, -0.63667341], [-0.40887718, 0.85253229]])
    nested = np.concatenate([random.normal(0, 0.2, (50, 3)), random.normal(1.2, 0.2, (50, 3)),
                             random.normal([9, 0, 0], 0.5, (40, 3)), random.uniform(-4, 12, (20, 3))])
    for name, rows in (("blobs", blobs), ("moons", moons), ("skewed", skewed), ("nested", nested)):
        rows = rows.astype(np.float16)
        queries = (rows[:: len(rows) // 25] + random.normal(0, 0.3, rows[:: len(rows) // 25].shape)).astype(np.float16)
        yield name, rows, queries


CASES = [
    ("blobs", dict(min_cluster_size=5)),
    ("blobs", dict(min_cluster_size=8, min_samples=3)),
    ("blobs", dict(min_cluster_size=10, cluster_selection_method="leaf")),
    ("blobs", dict(min_cluster_size=6, min_samples=1)),
    ("moons", dict(min_cluster_size=5)),
    ("moons", dict(min_cluster_size=5, min_samples=2, cluster_selection_epsilon=0.2)),
    ("moons", dict(min_cluster_size=4, min_samples=4, cluster_selection_method="leaf", cluster_selection_epsilon=0.15)),
    ("skewed", dict(min_cluster_size=12, min_samples=5, alpha=1.3)),
    ("skewed", dict(min_cluster_size=12, min_samples=5, alpha=0.8)),
    ("skewed", dict(min_cluster_size=60, allow_single_cluster=True)),
    ("skewed", dict(min_cluster_size=60, allow_single_cluster=True, cluster_selection_epsilon=1.0)),
    ("nested", dict(min_cluster_size=10, max_cluster_size=60)),
    ("nested", dict(min_cluster_size=10, cluster_selection_epsilon=1.5)),
]


def spanning_tree(rows, min_samples, alpha):
    """Prim over the mutual reachability graph under the order (weight, smaller row, greater row)."""
    rows = rows.astype(np.float64)
    distance = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(-1))
    core = np.sort(distance, axis=1)[:, min_samples]
    weight = np.maximum(np.maximum(core[:, None], core[None]), distance / alpha)
    n = len(rows)
    best = [(np.inf, n, n)] * n
    todo, current, edges = set(range(1, n)), 0, []
    while todo:
        for j in todo:
            best[j] = min(best[j], (weight[current, j], min(current, j), max(current, j)))
        current = min(todo, key=lambda j: best[j])
        todo.remove(current)
        edges.append(best[current])
    edges.sort()
    return np.array([[low, high, w] for w, low, high in edges])


def texts(values):
    return " ".join(f"{value:.9g}" for value in values)


def write_case(out, name, options, rows, queries):
    min_samples = options.get("min_samples", options["min_cluster_size"])
    native = hdbscan.HDBSCAN(algorithm="generic", gen_min_span_tree=True, **options).fit(rows.astype(np.float64))
    tree = spanning_tree(rows, min_samples, options.get("alpha", 1.0))
    # The convention of core distances, and that it is a minimum spanning tree at all.
    assert np.allclose(np.sort(native._min_spanning_tree[:, 2]), tree[:, 2], rtol=1e-12)
    condensed = condense_tree(single_linkage(tree), options["min_cluster_size"])
    labels, probabilities, persistences = get_clusters(
        condensed, compute_stability(condensed), options.get("cluster_selection_method", "eom"),
        options.get("allow_single_cluster", False), False, options.get("cluster_selection_epsilon", 0.0),
        options.get("max_cluster_size", 0))
    ours = hdbscan.HDBSCAN(algorithm="generic", **options).fit(rows.astype(np.float64))
    ours._condensed_tree, ours.labels_ = condensed, labels
    ours._raw_data = rows.astype(np.float64)
    has_clusters = labels.max() >= 0 and (condensed["child_size"] > 1).any()
    ours.metric = "euclidean"
    out.append(f"case {name} " + " ".join(f"{key}={value}" for key, value in options.items()))
    out.append("native " + " ".join(map(str, native.labels_)))
    out.append("labels " + " ".join(map(str, labels)))
    out.append("probabilities " + texts(probabilities))
    out.append("outlier_scores " + texts(outlier_scores(condensed)))
    out.append("persistences " + texts(persistences))
    if has_clusters:
        ours.generate_prediction_data()
        predicted, strengths = hdbscan.approximate_predict(ours, queries.astype(np.float64))
        out.append("predicted " + " ".join(map(str, predicted)))
        out.append("strengths " + texts(strengths))
    print(name, options, "clusters", labels.max() + 1, "noise", (labels < 0).sum(), "native differs in",
          (labels != native.labels_).sum())


def main():
    out, sets = [], {}
    for name, rows, queries in data_sets():
        sets[name] = rows, queries
        for kind, values in (("rows", rows), ("queries", queries)):
            bits = np.ascontiguousarray(values).view(np.uint16).ravel()
            out.append(f"{kind} {name} {values.shape[0]} {values.shape[1]} " + "".join(f"{b:04x}" for b in bits))
    for name, options in CASES:
        write_case(out, name, options, *sets[name])
    text = "\n".join(out) + "\n"
    (HERE / "hdbscan_golden.txt").write_text(text)
    print(len(text), "bytes")


if __name__ == "__main__":
    main()
