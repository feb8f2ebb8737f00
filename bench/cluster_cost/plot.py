"""Draws what clustering costs, from the JSON lines of bench/run cluster_cost.

plot.py MEASURED.jsonl FOLDER   writes FOLDER/kmeans-cost.svg, FOLDER/hdbscan-cost.svg and FOLDER/cluster-cost.jsonl
"""
import json
import math
import pathlib
import shutil
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 250, 210, 46, 38, 26
STYLE = ("<style>text{font:11px system-ui,sans-serif;fill:#555}.t{font-weight:600;fill:#222}.g{stroke:#ddd}"
         ".a{stroke:#888}.c{stroke:#1f5fae;fill:none;stroke-width:1.8}.p{fill:#1f5fae}.r{stroke:#aaa;fill:none;"
         "stroke-dasharray:4 3}</style>")


def ticks(low, high):
    """1, 2 and 5 of each decade within the range."""
    for decade in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if low * 0.999 <= value <= high * 1.001:
                yield value


def short(value):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def panel(at, title, x_name, points, slope):
    """One log-log picture; the dashed line rises in proportion to x^slope from the last point downwards."""
    points = sorted(points)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = min(xs) / 1.15, max(xs) * 1.15
    y_low, y_high = min(ys) / 1.6, max(ys) * 1.6

    def place(x, y):
        across = math.log(x / x_low) / math.log(x_high / x_low)
        up = math.log(y / y_low) / math.log(y_high / y_low)
        return at + LEFT + across * (WIDTH - LEFT - 12), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = [f'<text class="t" x="{at + LEFT}" y="14">{title}</text>']
    for y in ticks(y_low, y_high):
        (x0, py), (x1, _) = place(x_low, y), place(x_high, y)
        parts.append(f'<line class="g" x1="{x0:.1f}" y1="{py:.1f}" x2="{x1:.1f}" y2="{py:.1f}"/>'
                     f'<text x="{x0 - 5:.1f}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in xs:
        px, py = place(x, y_low)
        parts.append(f'<text x="{px:.1f}" y="{py + 15:.1f}" text-anchor="middle">{short(x)}</text>')
    (x0, y0), (x1, _) = place(x_low, y_low), place(x_high, y_low)
    parts.append(f'<line class="a" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y0:.1f}"/>'
                 f'<text x="{x1:.1f}" y="{y0 + 31:.1f}" text-anchor="end">{x_name}</text>')
    if slope:
        first, last = (xs[0], xs[-1]) if slope > 0 else (xs[-1], xs[0])
        anchor = dict(points)[last]
        if slope > 0:
            first = max(first, last * (y_low / anchor) ** (1 / slope))
        (ax, ay), (bx, by) = place(first, anchor * (first / last) ** slope), place(last, anchor)
        parts.append(f'<line class="r" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}"/>')
    line = " ".join("%.1f,%.1f" % place(x, y) for x, y in points)
    parts.append(f'<polyline class="c" points="{line}"/>')
    for x, y in points:
        px, py = place(x, y)
        parts.append(f'<circle class="p" cx="{px:.1f}" cy="{py:.1f}" r="2.6"><title>{x:g}: {y:g} s</title></circle>')
    return "".join(parts)


def draw(path, panels):
    body = "".join(panel(i * WIDTH, *one) for i, one in enumerate(panels))
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}" '
                    f'width="{WIDTH * len(panels)}" height="{HEIGHT}"><rect width="100%" height="100%" fill="#fff"/>'
                    f"{STYLE}{body}</svg>\n")


def main():
    lines = [json.loads(line) for line in open(sys.argv[1])]
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)

    def take(method, x, **fixed):
        """(x, seconds) of the lines in which all else is fixed."""
        return [(l[x], l.get("iteration", l["seconds"])) for l in lines
                if l["method"] == method and all(l.get(key) == value for key, value in fixed.items())]

    k = dict(k=64)
    draw(folder / "kmeans-cost.svg",
         [("k-means: s an iteration", "rows", take("kmeans", "rows", d=768, ranks=1, **k), 1),
          ("against dimension", "d", take("kmeans", "d", rows=100000, ranks=1, **k), 1),
          ("against clusters", "k", take("kmeans", "k", rows=100000, d=768, ranks=1), 1),
          ("against ranks", "ranks", take("kmeans", "ranks", rows=100000, d=768, **k), -1)])
    draw(folder / "hdbscan-cost.svg",
         [("HDBSCAN: seconds", "rows", take("hdbscan", "rows", d=768, ranks=1), 2),
          ("against dimension", "d", take("hdbscan", "d", rows=10000, ranks=1), 1),
          ("against ranks", "ranks", take("hdbscan", "ranks", rows=10000, d=768), -1)])
    if pathlib.Path(sys.argv[1]).resolve() != (folder / "cluster-cost.jsonl").resolve():
        shutil.copyfile(sys.argv[1], folder / "cluster-cost.jsonl")


if __name__ == "__main__":
    main()
