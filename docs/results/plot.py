#!/usr/bin/env python3
"""plot.py RESULTS.csv: draws accuracy against MACs and against parameters from the table of `moextract sweep collect`.

Writes accuracy-macs.svg and accuracy-parameters.svg beside the table. Repetitions (other calibration draws) are one point, their mean,
with a bar from the lowest to the highest; more than twice the parameters is left out. Standard library only.
"""
import csv
import html
import pathlib
import re
import sys

COLOURS = ["#1f5fae", "#b4540a", "#2e7d32", "#7b1fa2", "#c0392b", "#00838f", "#6d4c41", "#9e9d24", "#455a64", "#d81b60",
           "#1a237e", "#ff8f00", "#33691e", "#880e4f", "#00bcd4", "#8c9eff", "#a1887f"]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 470, 60, 30, 330, 50
TARGET, SEED = "assemble.target_active", "data.calibration.shuffle_seed"


def label(row):
    if row["method"] == "vbp":
        return "VBP"
    if row["method"] != "experts":
        return None  # controls have a table of their own
    get = lambda key: row.get(key, "")
    k = get("cluster.k")
    if get("assemble.method") != "least_squares":
        if get("assemble.budget") == "threshold":
            return "VBP's choice + least squares"
        extra = {"mean_shift": " + mean shift", "least_squares": " + least squares"}.get(get("assemble.compensation"), "")
        return f"MoEE, k = {k}{extra}"
    name = f"fitted, k = {k}"
    if get("cluster.tap") == "h":
        name += " on h, cosine"
    if get("cluster.tap") == "z":
        name += " on z"
    if get("assemble.budget") == "layer_share":
        name += ", same share a layer"
    if get("router.class_token") != "routed" and get("assemble.budget") == "layer_share":
        name += ", class token dense"
    return name + {"shared": ", one matrix", "low_rank": ", low rank"}.get(get("assemble.storage"), "")


def series(rows, axis):
    points = {}
    for row in rows:
        name = label(row)
        if name is None or not row["top1"] or not row[axis]:
            continue
        points.setdefault(name, {}).setdefault(row.get(TARGET, ""), []).append((100 * float(row[axis]), 100 * float(row["top1"])))
    return points


def draw(rows, axis, title, path):
    data = series(rows, axis)
    dense = next((100 * float(row["dense_top1"]) for row in rows if row.get("dense_top1")), None)
    xs = [x for groups in data.values() for group in groups.values() for x, _ in group] + [100]
    furthest = min(max(xs), 200) if axis == "parameters_share" else max(xs)
    low, high = 5 * int(min(xs) / 5), 5 * int(furthest / 5 + 1)
    x_of = lambda x: LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y_of = lambda y: TOP + (75 - y) / 75 * (HEIGHT - TOP - BOTTOM)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="18" font-size="13">Top-1 accuracy (%) against {html.escape(title)} (% of the dense model)</text>']
    for y in range(0, 76, 15):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y}</text>')
    step = 5 if high - low <= 60 else 10
    for x in range(low, high + 1, step):
        out.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x}</text>')
    if dense is not None:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(dense):.1f}" y2="{y_of(dense):.1f}" stroke="#4c4f55" stroke-dasharray="4 3"/>')
        out.append(f'<text x="{LEFT + 4}" y="{y_of(dense) - 6:.1f}" fill="#4c4f55">dense {dense:.1f}</text>')
    natural = lambda item: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", item[0])]
    shown = 0
    for i, (name, groups) in enumerate(sorted(data.items(), key=natural)):
        colour, places = COLOURS[i % len(COLOURS)], []
        for group in groups.values():
            x = sum(p[0] for p in group) / len(group)
            y = sum(p[1] for p in group) / len(group)
            if x <= furthest:
                places.append((x, y, min(p[1] for p in group), max(p[1] for p in group), len(group)))
        if not places:
            continue
        places.sort()
        if len(places) > 1:
            line = " ".join(f"{x_of(p[0]):.1f},{y_of(p[1]):.1f}" for p in places)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for x, y, least, most, count in places:
            out.append(f'<line x1="{x_of(x):.1f}" x2="{x_of(x):.1f}" y1="{y_of(least):.1f}" y2="{y_of(most):.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.6" fill="{colour}"><title>{html.escape(name)}: {x:.1f} %, {y:.2f} % top-1, {count} draws</title></circle>')
        y = TOP + 34 + 19 * shown
        shown += 1
        out.append(f'<circle cx="{WIDTH - RIGHT + 26}" cy="{y - 4}" r="4" fill="{colour}"/><text x="{WIDTH - RIGHT + 36}" y="{y}">{html.escape(name)}</text>')
    out.append("</svg>")
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    table = pathlib.Path(sys.argv[1])
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    draw(rows, "macs_share", "multiply-accumulates", table.with_name("accuracy-macs.svg"))
    draw(rows, "parameters_share", "parameters", table.with_name("accuracy-parameters.svg"))


main()
