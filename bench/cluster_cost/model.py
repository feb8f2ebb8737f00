"""What k-means would take at the size of ImageNet, from the JSON lines of bench/run cluster_cost. Prints Markdown.

model.py MEASURED.jsonl [--latency SECONDS] [--bandwidth BYTES_PER_SECOND]

An iteration is each rank's own rows, at the measured seconds a row on one core, and one reduction of the clusters' sums:

    seconds = rows / ranks * seconds_a_row(d, k) + 2 log2(ranks) latency + 2 bytes (ranks - 1) / ranks / bandwidth
    bytes = 8 (k d + 2 k + 3)

which is what a reduction by halving and doubling moves. Latency and bandwidth are assumptions about the network (5 us and
10 GB/s unless given); the rest is measured. The lines with two ranks check it: they were not used to make it.
"""
import argparse
import json
import math

IMAGES, TOKENS = 1_281_167, 197


def reduced_bytes(d, k):
    return 8 * (k * d + 2 * k + 3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("measured")
    parser.add_argument("--latency", type=float, default=5e-6)
    parser.add_argument("--bandwidth", type=float, default=10e9)
    options = parser.parse_args()
    lines = [json.loads(line) for line in open(options.measured)]
    kmeans = [l for l in lines if l["method"] == "kmeans"]
    alone = {(l["d"], l["k"]): l["iteration"] / l["rows"] for l in kmeans if l["ranks"] == 1 and l["rows"] == 100000}

    def seconds(rows, ranks, d, k):
        reduce = 0.0
        if ranks > 1:
            reduce = (2 * math.log2(ranks) * options.latency
                      + 2 * reduced_bytes(d, k) * (ranks - 1) / ranks / options.bandwidth)
        return rows / ranks * alone[d, k], reduce

    print("Check against two ranks of one thread, 100,000 rows:\n")
    print("| d | k | measured, one rank (s an iteration) | predicted, two | measured, two | off |")
    print("|---|---|---|---|---|---|")
    for l in kmeans:
        if l["ranks"] != 2 or (l["d"], l["k"]) not in alone:
            continue
        predicted = sum(seconds(l["rows"], 2, l["d"], l["k"]))
        print(f"| {l['d']} | {l['k']} | {alone[l['d'], l['k']] * l['rows']:.4f} | {predicted:.4f} | {l['iteration']:.4f} | "
              f"{100 * (predicted / l['iteration'] - 1):+.0f} % |")
    rows = IMAGES * TOKENS
    print(f"\nImageNet's training set, every token: {rows / 1e6:.0f} million rows of 768 values, one layer, one core a rank:\n")
    print("| ranks | rows a rank (million) | its rows (GB) | k | own work (s an iteration) | reduction (ms) | reduced (MB) |")
    print("|---|---|---|---|---|---|---|")
    for ranks in (8, 32, 128, 512, 1024):
        for k in (64, 256):
            own, reduce = seconds(rows, ranks, 768, k)
            print(f"| {ranks} | {rows / ranks / 1e6:.2f} | {rows / ranks * 768 * 2 / 1e9:.1f} | {k} | {own:.2f} | "
                  f"{reduce * 1e3:.2f} | {reduced_bytes(768, k) / 1e6:.2f} |")


if __name__ == "__main__":
    main()
