"""The bench's HTML page: one file that needs nothing else. Tables, a chart a workload with every run as a dot, and how it was measured."""
import html

from benchlib import chart, compare
from benchlib.measure import median

STYLE = """body{font:14px sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}table{border-collapse:collapse;margin:1em 0}
td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
.faster{color:#07720b}.slower{color:#b00020}.quiet{color:#777}figure{display:inline-block;margin:6px 10px}figcaption{font-weight:bold}
pre{font-size:11px;overflow:auto;max-height:36em;background:#f6f6f6;padding:6px}.three{display:grid;grid-template-columns:1fr 1fr 1fr;gap:8px}"""


def table(header, rows):
    """Cells are text, or (text, class)."""
    def cell(value, tag="td"):
        value, kind = value if isinstance(value, tuple) else (value, "")
        return f"<{tag}{f' class={kind}' if kind else ''}>{html.escape(str(value))}</{tag}>"
    lines = ["<table><tr>" + "".join(cell(h, "th") for h in header) + "</tr>"]
    lines += ["<tr>" + "".join(cell(c) for c in row) + "</tr>" for row in rows]
    return "\n".join(lines + ["</table>"])


def medians(document, what, form):
    engines = list(dict.fromkeys(e for outcomes in document["workloads"].values() for e in outcomes))
    rows = []
    for name, outcomes in document["workloads"].items():
        row = [name]
        for e in engines:
            o = outcomes.get(e)
            if o is None or o["trouble"] or not o["samples"]:
                row.append((o["trouble"] or "not run") if o else "not run")
            else:
                row.append(form.format(median([s[what] for s in o["samples"]])))
        rows.append(row)
    return table([""] + engines, rows)


def workload_chart(name, outcomes):
    """Wall time of every engine, linear from zero: the bar is the median, a dot is a run, the thin bar CPU time."""
    have = {e: o["samples"] for e, o in outcomes.items() if o["samples"] and not o["trouble"]}
    if not have:
        return ""
    most = max(max(s["wall"], s["cpu"]) for samples in have.values() for s in samples) or 1
    left, width, line = 60, 330, 22
    out = [f'<svg width="{left + width + 60}" height="{line * len(have) + 8}" font-family="sans-serif" font-size="11">']
    spare = iter(chart.SPARE * 9)
    for i, (engine, samples) in enumerate(have.items()):
        y, wall, cpu = i * line + 4, median([s["wall"] for s in samples]), median([s["cpu"] for s in samples])
        colour = chart.COLOURS.get(engine) or next(spare)
        x = lambda seconds: left + width * seconds / most
        out.append(f'<text x="{left - 5}" y="{y + 12}" text-anchor="end">{html.escape(engine)}</text>'
                   f'<rect x="{left}" y="{y}" width="{x(wall) - left:.1f}" height="12" fill="{colour}"/>'
                   f'<rect x="{left}" y="{y + 13}" width="{x(cpu) - left:.1f}" height="3" fill="#999"/>'
                   f'<text x="{x(max(s["wall"] for s in samples)) + 6:.1f}" y="{y + 11}">{wall:.3f}</text>')
        out += [f'<circle cx="{x(s["wall"]):.1f}" cy="{y + 6}" r="2.5" fill="white" stroke="black"/>' for s in samples]
    return f"<figure><figcaption>{html.escape(name)}</figcaption>{''.join(out)}</svg></figure>"


def change_table(old, new):
    rows = []
    for c in compare.changes(old, new):
        kind = c.verdict if c.clear else "quiet"
        rows.append([f"{c.workload} {c.engine}", f"{median(c.before):.3f} ±{compare.spread(c.before):.0f} %",
                     f"{median(c.after):.3f} ±{compare.spread(c.after):.0f} %", (f"{c.ratio:.2f}", kind), (c.verdict, kind)])
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in compare.differences(old, new))
    notes += "".join(f"<p>Geometric mean, {html.escape(e)}: {m:.3f} of the time.</p>" for e, m in compare.means(compare.changes(old, new)).items())
    return table(["wall seconds", "then", "now", "now/then", ""], rows) + notes


def page(document, means, svg, old=None, trace=""):
    title = f"Kiln {document['commit']}: {document['guest']} guests"
    load = document["load"][0]
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>",
             f"<p>{html.escape(document['date'])}; {html.escape(document['processor'])}, {document['cores']} cores, load {load:.2f} before; "
             f"{document['runs']} runs of everything{', an eighth of the size' if document['quick'] else ''}.</p>",
             "<p>" + "<br>".join(html.escape(line) for line in means) + "</p>", svg]
    if old:
        parts += [f"<h2>Against {html.escape(old['commit'])} of {html.escape(old['date'])}</h2>", change_table(old, document)]
    for heading, what, form in (("Wall seconds (median)", "wall", "{:.3f}"), ("CPU seconds, user and system, all threads (median)", "cpu", "{:.3f}"),
                                ("Peak memory, MB", "rss_mb", "{:.1f}")):
        parts += [f"<h2>{heading}</h2>", medians(document, what, form)]
    parts += ["<h2>Every workload</h2>", "".join(workload_chart(n, o) for n, o in document["workloads"].items()), trace,
              "<h2>How the numbers were taken</h2><p>The engines take turns: each runs the workload once, then again, so that a busy minute of the machine "
              "hits all alike. The bar is the median, a dot is a run, the grey line is CPU time of all threads. Every output is compared with the native "
              "program's; one that differs is no result. Caches of translated code are off but for the engine 'warm'. A change is called faster or slower "
              "only where no run of the one lies among those of the other. Commands:</p>",
              "<pre>" + html.escape("\n".join(f"{name:<16} {line}" for name, line in document.get("commands", {}).items())) + "</pre>"]
    return "\n".join(parts) + "\n"
