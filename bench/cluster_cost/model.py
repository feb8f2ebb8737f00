"""What k-means would take at the size of ImageNet, from the JSON lines of bench/run cluster_cost. Prints Markdown.

model.py MEASURED.jsonl [--latency SECONDS] [--bandwidth BYTES_PER_SECOND]

An iteration is each rank's own rows, at the measured seconds a row on one core, and one reduction of the clusters' sums:

    seconds = rows / ranks * seconds_a_row(d, k) + 2 log2(ranks) latency + 2 bytes (ranks - 1) / ranks / bandwidth
    bytes = 8 (k d + 2 k + 3)

which is what a reduction by halving and doubling moves. Latency and bandwidth are assumptions about the network (5 us and
10 GB/s unless given); the rest is measured. The lines with two ranks check it: they were not used to make it.

HDBSCAN's fit is on a sample of n rows of d values, which every rank holds. Fitted by least squares (relative errors) to the lines of
one rank:

    neighbours = a n^2 / 2 d / ranks + b n d + c n
    tree       = e searched n d / ranks + f n d + g n        searched: rows that Boruvka's rounds compared with all others

Only what is divided by ranks is shared; the rest each rank does for itself (layouts, lists, merging, trees). Ranks exchange a bound a
row (20 + 1 reductions of 4 n bytes), of every row the entries that may be among its 16 nearest, and in each round of searches 16 bytes a
searched row. That some 20 entries a row are left, that an entry takes 50 ns to receive and sort, and that there are 10 rounds of searches
over 2.5 % of the rows in all (as in the lines of 10,000 rows) are assumptions. So is that a distance takes as long when rows are
predicted (each against the sample) as among the sample itself.
"""
import argparse
import json
import math

IMAGES, TOKENS = 1_281_167, 197


def reduced_bytes(d, k):
    return 8 * (k * d + 2 * k + 3)


BISECTIONS, ENTRIES, ENTRY_BYTES = 20, 20, 16  # hdbscan_neighbours.cpp; ENTRIES is an assumption
ENTRY_SECONDS = 50e-9  # assumption: to receive an entry, put it in its row's list and sort that
SEARCH_ROUNDS, SEARCHED_SHARE = 10, 0.025  # assumption


def least_squares(terms, values):
    """The factors, none below 0, with which `terms` give `values` at the least sum of squared relative errors."""
    kept = list(range(len(terms[0])))
    while True:
        rows = [[line[k] / v for k in kept] for line, v in zip(terms, values)]
        matrix = [[sum(r[i] * r[j] for r in rows) for j in range(len(kept))] + [sum(r[i] for r in rows)]
                  for i in range(len(kept))]
        for i in range(len(kept)):
            best = max(range(i, len(kept)), key=lambda r: abs(matrix[r][i]))
            matrix[i], matrix[best] = matrix[best], matrix[i]
            for r in range(len(kept)):
                if r != i:
                    factor = matrix[r][i] / matrix[i][i]
                    matrix[r] = [x - factor * y for x, y in zip(matrix[r], matrix[i])]
        solved = {k: matrix[i][-1] / matrix[i][i] for i, k in enumerate(kept)}
        if min(solved.values()) >= 0:
            return [solved.get(k, 0.0) for k in range(len(terms[0]))]
        kept.remove(min(solved, key=solved.get))


class HdbscanModel:
    def __init__(self, lines):
        alone = [l for l in lines if l["method"] == "hdbscan" and l["ranks"] == 1]
        self.pair, self.value, self.row = least_squares(
            [[l["rows"] ** 2 / 2 * l["d"], l["rows"] * l["d"], l["rows"]] for l in alone],
            [l["neighbours"] for l in alone])
        self.search, self.tree_value, self.tree_row = least_squares(
            [[l["searched_rows"] * l["rows"] * l["d"], l["rows"] * l["d"], l["rows"]] for l in alone],
            [l["spanning_tree"] for l in alone])

    def neighbours(self, n, d, ranks):
        return self.pair * n**2 / 2 * d / ranks + self.value * n * d + self.row * n

    def tree(self, n, d, ranks, searched):
        return self.search * searched * n * d / ranks + self.tree_value * n * d + self.tree_row * n

    def predict(self, rows, n, d, ranks):
        return self.pair * rows / ranks * n * d


def print_hdbscan(lines, options, rows):
    model = HdbscanModel(lines)
    print(f"\nHDBSCAN. a = {model.pair:.3g} s a multiply-add, b = {model.value:.3g} s a value, c = {model.row:.3g} s a row; tree: "
          f"{model.search:.3g}, {model.tree_value:.3g}, {model.tree_row:.3g}. Against the lines, of which those of one rank made it:\n")
    print("| rows | d | ranks | neighbours, model (s) | measured | off | tree, model (s) | measured | off |")
    print("|---|---|---|---|---|---|---|---|---|")
    for l in lines:
        if l["method"] != "hdbscan":
            continue
        near = model.neighbours(l["rows"], l["d"], l["ranks"])
        tree = model.tree(l["rows"], l["d"], l["ranks"], l["searched_rows"])
        print(f"| {l['rows']} | {l['d']} | {l['ranks']} | {near:.3f} | {l['neighbours']:.3f} | "
              f"{100 * (near / l['neighbours'] - 1):+.0f} % | {tree:.4f} | {l['spanning_tree']:.4f} | "
              f"{100 * (tree / l['spanning_tree'] - 1):+.0f} % |")
    n = 30_000
    print(f"\nA sample of {n} of {rows / 1e6:.0f} million rows, one layer, one core a rank:\n")
    print("| ranks | d | shared work (s) | each rank's own (s) | received (MB) | network (s) | merging (s) | the fit (s) | "
          "predicting all rows (s) |")
    print("|---|---|---|---|---|---|---|---|---|")
    for d in (50, 768):
        for ranks in (1, 8, 32, 128, 512, 1024):
            searched = SEARCHED_SHARE * n
            whole = model.neighbours(n, d, ranks) + model.tree(n, d, ranks, searched)
            shared = model.pair * n**2 / 2 * d / ranks + model.search * searched * n * d / ranks
            received = network = merging = 0.0
            if ranks > 1:
                reduced = (BISECTIONS + 1) * 2 * 4 * n * (ranks - 1) / ranks
                received = reduced + ENTRY_BYTES * (ENTRIES * n + searched)
                # A gathering passes a message on ranks - 1 times in the worst case; reductions go by halves.
                calls = (BISECTIONS + 1) * 2 * math.log2(ranks) + (SEARCH_ROUNDS + 2) * (ranks - 1)
                network = received / options.bandwidth + calls * options.latency
                merging = n * ENTRIES * ENTRY_SECONDS
            print(f"| {ranks} | {d} | {shared:.3f} | {whole - shared:.3f} | {received / 1e6:.1f} | {network:.3f} | "
                  f"{merging:.3f} | {whole + network + merging:.2f} | {model.predict(rows, n, d, ranks):.0f} |")


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
    print_hdbscan(lines, options, rows)


if __name__ == "__main__":
    main()
