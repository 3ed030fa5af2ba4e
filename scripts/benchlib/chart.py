"""The bench's SVG: horizontal bars, one group a workload, time relative to native on a logarithmic axis."""
import html
import math

COLOURS = {"native": "#888888", "qemu": "#d95f02", "interp": "#bbbbbb", "tier1": "#66a61e", "tier2": "#1b9e77", "auto": "#1f4fb4", "warm": "#6f9fe8"}
SPARE = ["#7570b3", "#e7298a", "#a6761d"]


def svg(title, rows, engines):
    """rows: [(workload, {engine: ratio to native or None})]; engines in drawing order."""
    bar, gap, left, width = 11, 10, 110, 560
    group = bar * len(engines) + gap
    top, height = 70, len(rows) * group
    values = [r for _, ratios in rows for r in ratios.values() if r]
    low, high = min(values + [0.9]), max(values + [2]) * 1.05
    low = min(low, 0.9)
    scale = lambda v: left + width * (math.log(v) - math.log(low)) / (math.log(high) - math.log(low))
    colour = {e: COLOURS.get(e, SPARE[i % len(SPARE)]) for i, e in enumerate(engines)}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{top + height + 40}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20" font-size="14">{html.escape(title)}</text>',
           '<text x="10" y="36" fill="#555">time relative to native (logarithmic); shorter is better</text>']
    for i, e in enumerate(engines):
        x = left + i * 95
        out.append(f'<rect x="{x}" y="46" width="10" height="10" fill="{colour[e]}"/><text x="{x + 14}" y="55">{html.escape(e)}</text>')
    for tick in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500):
        if low <= tick <= high:
            x = scale(tick)
            out.append(f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{top + height}" stroke="#ddd"/>'
                       f'<text x="{x:.1f}" y="{top + height + 16}" text-anchor="middle" fill="#555">{tick}x</text>')
    for i, (name, ratios) in enumerate(rows):
        y = top + i * group
        out.append(f'<text x="{left - 6}" y="{y + bar * len(engines) / 2 + 4:.0f}" text-anchor="end">{html.escape(name)}</text>')
        for j, e in enumerate(engines):
            v = ratios.get(e)
            at = y + j * bar
            if v is None:
                out.append(f'<text x="{left + 3}" y="{at + 9}" fill="#a00">{html.escape(e)}: failed or not run</text>')
                continue
            x = max(scale(v), left + 1)
            out.append(f'<rect x="{left}" y="{at}" width="{x - left:.1f}" height="{bar - 1}" fill="{colour[e]}"/>'
                       f'<text x="{x + 3:.1f}" y="{at + 9}" font-size="9">{v:.2f}</text>')
    return "\n".join(out + ["</svg>", ""])
