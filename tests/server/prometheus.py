"""A strict reader of Prometheus' text form, version 0.0.4: what it accepts, every scraper does.

parse(text) -> {family: Family(type, help, samples)}, samples: {(name, ((label, value), ...)): number}.
"""
import dataclasses
import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN")
TYPES = ("counter", "gauge", "histogram")


@dataclasses.dataclass
class Family:
    type: str
    help: str
    samples: dict


def unescape(text):
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "\\": "\\", '"': '"'}[m[1]], text)


def labels(text):
    out, at = [], 0
    while at < len(text):
        m = LABEL.match(text, at)
        assert m, f"labels {text!r}"
        out.append((m[1], unescape(m[2])))
        at = m.end()
        assert at == len(text) or text[at] == ",", f"labels {text!r}"
        at += 1
    assert len({k for k, _ in out}) == len(out), f"a label twice: {text!r}"
    return tuple(out)


def sample(line):
    m = NAME.match(line)
    assert m, line
    rest, found = line[m.end():], ()
    if rest.startswith("{"):
        close = re.match(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}', rest)
        assert close, line
        found, rest = labels(close[1]), rest[close.end():]
    assert rest.startswith(" ") and NUMBER.fullmatch(rest[1:]), line
    return m[0], found, float(rest[1:].replace("Inf", "inf"))


def belongs(name, family, kind):
    return name == family if kind != "histogram" else name in (f"{family}_bucket", f"{family}_sum", f"{family}_count")


def parse(text):
    assert text.endswith("\n") and "\n\n" not in text and "\r" not in text
    families, current = {}, None
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if line.startswith("# HELP "):
            _, _, name, help_text = line.split(" ", 3)
            kind = next(lines).split(" ")
            assert kind[:3] == ["#", "TYPE", name] and len(kind) == 4 and kind[3] in TYPES, f"after {line}: {kind}"
            assert name not in families, f"family {name} stands twice"
            current = name
            families[name] = Family(kind[3], help_text, {})
            continue
        name, found, value = sample(line)
        assert belongs(name, current, families[current].type), f"{name} stands under {current}"
        key = (name, tuple(sorted(found)))
        assert key not in families[current].samples, f"series twice: {line}"
        families[current].samples[key] = value
    for name, family in families.items():
        check(name, family)
    return families


def check(name, family):
    if family.type == "counter":
        assert name.endswith("_total"), name
        assert all(v >= 0 and v == v for v in family.samples.values()), name
    if family.type != "histogram":
        return
    series = {}
    for (sample_name, found), value in family.samples.items():
        rest = tuple(kv for kv in found if kv[0] != "le")
        one = series.setdefault(rest, {"le": [], "sum": None, "count": None})
        if sample_name.endswith("_bucket"):
            one["le"].append((float(dict(found)["le"].replace("Inf", "inf")), value))
        else:
            one[sample_name.rsplit("_", 1)[1]] = value
    for one in series.values():
        bounds, counts = zip(*one["le"])
        assert list(bounds) == sorted(set(bounds)) and bounds[-1] == math.inf, name
        assert list(counts) == sorted(counts) and counts[-1] == one["count"], name
        assert one["sum"] is not None and (one["sum"] == 0 or one["count"] > 0), name


class Metrics:
    """One reading of /metrics: m("name", label="x") is a sample's value."""

    def __init__(self, text):
        self.families = parse(text)

    def __call__(self, name, default=None, **wanted):
        key = (name, tuple(sorted(wanted.items())))
        for family in self.families.values():
            if key in family.samples:
                return family.samples[key]
        assert default is not None, f"no sample {key}"
        return default

    def bounds(self, family):
        return [dict(k[1])["le"] for k in self.families[family].samples if "le" in dict(k[1])]
