"""Times moextract's HDBSCAN beside hdbscan, fast_hdbscan and scikit-learn on the same rows; called by run.sh.

    compare.py DRIVER ROWS.f16 DIMENSION THREADS ROUNDS [--skip PEER ...]

Prints one JSON line. Rounds are interleaved; of each program the fastest round counts. `cpu_seconds` are of the last round,
all threads together: what to look at on a busy machine. A peer that takes longer than LIMIT (600, from the environment) seconds counts with that and is named in `over_limit`; one that
ends without a result ends the comparison. Parameters are the same for all: min_cluster_size 50, and 5 neighbours other
than the row itself for the core distance (scikit-learn counts the row itself: 6).
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import queue
import resource
import subprocess
import sys
import tempfile
import time

MIN_CLUSTER_SIZE, MIN_SAMPLES = 50, 5
LIMIT = int(os.environ.get("LIMIT", "600"))


def run_peer(name, path, dimension, threads, result):
    import numpy as np

    rows = np.fromfile(path, np.float16).reshape(-1, dimension).astype(np.float64)
    if name == "hdbscan":
        import hdbscan

        model = hdbscan.HDBSCAN(MIN_CLUSTER_SIZE, MIN_SAMPLES, core_dist_n_jobs=threads, approx_min_span_tree=False)
    elif name == "fast_hdbscan":
        import fast_hdbscan

        model = fast_hdbscan.HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, min_samples=MIN_SAMPLES)
        model.fit(rows)  # compiles; a few rows do not reach all of its code
    else:
        from sklearn.cluster import HDBSCAN

        model = HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, min_samples=MIN_SAMPLES + 1, n_jobs=threads, copy=True)
    # What compiles in each process anew is fitted more than once there.
    taken = []
    for _ in range(3 if name == "fast_hdbscan" else 1):
        start, cpu = time.perf_counter(), time.process_time()
        labels = model.fit(rows).labels_
        taken.append((time.perf_counter() - start, time.process_time() - cpu))
    result.put((*min(taken), labels.astype(np.int32).tobytes()))


def time_peer(name, *arguments):
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=run_peer, args=(name, *arguments, result))
    process.start()
    deadline = time.monotonic() + LIMIT + 60  # loading and compiling do not count, but have an end too
    while time.monotonic() < deadline:
        try:
            taken, cpu, labels = result.get(timeout=1)
            process.join(timeout=5)
            process.kill()  # joblib's idle workers can keep it for minutes
            process.join()
            return min(taken, LIMIT), cpu, labels
        except queue.Empty:
            if not process.is_alive() and result.empty():
                sys.exit(f"{name} ended with exit code {process.exitcode}: no comparison without it; see --skip")
    process.terminate()
    process.join()
    return float(LIMIT), None, None


def time_ours(driver, path, dimension, threads):
    with tempfile.TemporaryDirectory() as folder:
        labels = pathlib.Path(folder) / "labels.i32"
        command = [driver, path, str(dimension), str(MIN_CLUSTER_SIZE), str(MIN_SAMPLES), str(threads), str(labels)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Reading the file is in it: an upper bound.
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.loads(line), cpu, labels.read_bytes()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("rows")
    parser.add_argument("dimension", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--skip", nargs="*", default=[])
    options = parser.parse_args()
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    peers = [name for name in ("hdbscan", "fast_hdbscan", "scikit-learn") if name not in options.skip]
    ours, seconds, labels, details, cpus = [], {name: [] for name in peers}, {}, {}, {}
    for _ in range(options.rounds):
        details, cpus["ours"], labels["ours"] = time_ours(options.driver, options.rows, options.dimension, options.threads)
        ours.append(details["seconds"])
        for name in peers:
            if seconds[name] and min(seconds[name]) >= LIMIT:
                continue
            taken, cpus[name], found = time_peer(name, options.rows, options.dimension, options.threads)
            seconds[name].append(taken)
            if found is not None:
                labels[name] = found
            print(f"{name}: {taken:.2f} s; ours {ours[-1]:.2f} s", file=sys.stderr)
    arrays = {name: np.frombuffer(found, np.int32) for name, found in labels.items()}
    best = {name: round(min(taken), 3) for name, taken in seconds.items()}
    count = os.path.getsize(options.rows) // 2 // options.dimension
    line = {
        "name": "hdbscan_vs_best",
        "n": count,
        "d": options.dimension,
        "threads": options.threads,
        "ours": round(min(ours), 3),
        "peer": min(best.values()),
        "ratio": round(min(best.values()) / min(ours), 2),
        "peers": best,
        "over_limit": [name for name, taken in best.items() if taken >= LIMIT],
        "cpu_seconds": {name: round(cpu, 3) for name, cpu in cpus.items() if cpu is not None},
        "ari": {name: round(adjusted_rand_score(arrays["ours"], found), 5)
                for name, found in arrays.items() if name != "ours"},
        "clusters": details["clusters"],
        "noise": int((arrays["ours"] < 0).sum()),
        "searched_rows": details["searched_rows"],
        "kernel": details["kernel"],
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
