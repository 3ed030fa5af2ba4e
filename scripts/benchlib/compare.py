"""What changed against an earlier run's JSON: the ratio of medians, and whether it is more than the runs' own spread."""
import json
import math

from benchlib.measure import median


class Change:
    """One workload under one engine, then and now; `values` are seconds of the runs that went well."""

    def __init__(self, workload, engine, before, after):
        self.workload, self.engine, self.before, self.after = workload, engine, before, after
        self.ratio = median(after) / median(before) if median(before) else float("nan")

    @property
    def clear(self):
        """No run of the one lies among those of the other. One run each says nothing."""
        return min(len(self.before), len(self.after)) > 1 and (min(self.after) > max(self.before) or max(self.after) < min(self.before))

    @property
    def verdict(self):
        return ("slower" if self.ratio > 1 else "faster") if self.clear else "within the spread"


def spread(values):
    """Half of the range, in percent of the median."""
    middle = median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0


def load(path):
    with open(path) as text:
        return json.load(text)


def changes(old, new, what="wall"):
    """Of two documents, what both measured without trouble."""
    found = []
    for workload, engines in new["workloads"].items():
        for engine, outcome in engines.items():
            was = old["workloads"].get(workload, {}).get(engine)
            if was is None or was["trouble"] or outcome["trouble"] or not was["samples"] or not outcome["samples"]:
                continue
            found.append(Change(workload, engine, [s[what] for s in was["samples"]], [s[what] for s in outcome["samples"]]))
    return found


def differences(old, new):
    """Why the two runs may not be comparable, one line each."""
    lines = []
    for key in ("guest", "quick", "cores", "processor"):
        if old.get(key) != new.get(key):
            lines.append(f"{key}: then {old.get(key)}, now {new.get(key)}")
    if max(old["load"][0], new["load"][0]) > 0.5 * new["cores"]:
        lines.append(f"the machine was busy: load then {old['load'][0]:.2f}, now {new['load'][0]:.2f}, on {new['cores']} cores")
    return lines


def means(found):
    """{engine: geometric mean of the ratios}"""
    logs = {}
    for c in found:
        if c.ratio > 0:
            logs.setdefault(c.engine, []).append(math.log(c.ratio))
    return {engine: math.exp(sum(values) / len(values)) for engine, values in logs.items()}


def text(old, new):
    lines = []
    for what in ("wall", "cpu"):
        found = changes(old, new, what)
        lines.append(f"\n{what} seconds against {old['commit']} of {old['date']} (median, +- half the range in %)")
        lines.append(f"{'':<16}{'':<9}{'then':>9}{'':>7}{'now':>10}{'':>7}{'now/then':>10}")
        for c in found:
            lines.append(f"{c.workload:<16}{c.engine:<9}{median(c.before):>9.3f}{f'+-{spread(c.before):.0f}':>7}{median(c.after):>10.3f}"
                         f"{f'+-{spread(c.after):.0f}':>7}{c.ratio:>10.2f}  {c.verdict if c.clear else ''}")
        for engine, mean in means(found).items():
            lines.append(f"geometric mean, {engine}: {mean:.3f} of the time")
    return "\n".join(lines + ["! " + line for line in differences(old, new)])
