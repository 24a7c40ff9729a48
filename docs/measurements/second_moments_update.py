"""Forms of Adam's second moments, and the update of tools/train's optimizers.

What one value of v stands for, by tensor: an "element"; a "row" (an output) or a
"column" (an input) of a matrix; a "head" of rows; the "whole" vector; or
"factored": v_ij = r_i c_j / mean(r), where r and c average the squared gradients
of a row and of a column. "factored/T" has T sets of columns, each for a T-th of
the rows; "factored/head" has one for each head. "qkv" is q and k by head, v by row.
"""

import dataclasses
import math

import torch

from second_moments_model import TABLES

BETA1, BETA2, DECAY = 0.9, 0.95, 0.1
MINI = {"matrix": "row", "norm": "whole", "q": "head", "k": "head", "qkv": "qkv"}
FACTORED = {"matrix": "factored", "norm": "element"}
PER_HEAD = {"q": "factored/head", "k": "factored/head"}
BY_COLUMN = dict.fromkeys(("v", "o", "gate", "up", "down"), "column")
BY_TOKEN = dict.fromkeys(TABLES, "row")
HALVES = dict.fromkeys(("q", "k", "v", "o", "gate", "up", "down"), "factored/2")
FORMS = {  # All but the first two change something of "factored".
    "adamw": {"matrix": "element", "norm": "element"},
    "adam-mini": MINI,
    "factored": FACTORED,
    "tables by token": FACTORED | BY_TOKEN,
    "embedding by token": FACTORED | {"embed": "row"},
    "head by token": FACTORED | {"head": "row"},
    "tables by token, qkv in thirds": FACTORED | BY_TOKEN | {"qkv": "factored/3"},
    "tables per element": FACTORED | dict.fromkeys(TABLES, "element"),
    "head per element": FACTORED | {"head": "element"},
    "q, k by head": FACTORED | {"q": "head", "k": "head"},
    "q, k factored per head": FACTORED | PER_HEAD,
    "v, o, MLP by column": FACTORED | BY_COLUMN,
    "two sets of columns": FACTORED | HALVES,
    "norms as one": FACTORED | {"norm": "whole"},
}


@dataclasses.dataclass(frozen=True)
class Run:
    form: str
    rate: float
    seed: int
    row_beta: float = BETA2  # Of the two factors; everything else has BETA2.
    column_beta: float = BETA2
    epsilon: float = 1e-8  # Added to the root of v.
    inside: float = 0.0  # Its square is added to v.
    # Of factored tensors: what m / root(v) is limited to, and what share of v is
    # instead the element's own m^2, or the square of its gradient of this step.
    limit: float = math.inf
    momentum_share: float = 0.0
    current_share: float = 0.0

    def label(self):
        changed = [
            f"{field.name} {getattr(self, field.name):g}"
            for field in dataclasses.fields(self)[3:]
            if getattr(self, field.name) != field.default
        ]
        return ", ".join([self.form, *changed])


def kind_of(form, name):
    rules = FORMS[form]
    if name.endswith("_bias"):
        return "element"
    return rules.get(name, rules["norm" if name.startswith("norm") else "matrix"])


def tiles_of(kind, shape, name):
    if not kind.startswith("factored/"):
        return 1
    heads = {"q": shape.heads, "k": shape.kv_heads}
    return heads[name] if kind.endswith("head") else int(kind.split("/")[1])


def state_bytes(shape, form):
    """Of momentum and second moments in fp32, per parameter."""
    parameters = values = 0
    for name, sizes in shape.tensors().items():
        kind = kind_of(form, name)
        layers, rows, columns = (*sizes, 1)[:3]
        head = shape.hidden // shape.heads
        tiles = tiles_of(kind, shape, name)
        parameters += math.prod(sizes)
        values += layers * {
            "element": rows * columns, "row": rows, "column": columns, "whole": 1,
            "head": rows // head, "qkv": 2 * shape.heads + rows // 3,
        }.get(kind, rows + tiles * columns)  # fmt: skip
    return 4 + 4 * values / parameters


class Part:
    """The runs low..high of one tensor, which have the same kind of v."""

    def __init__(self, trainer, name, low, high, kind):
        self.name, self.runs, self.kind = name, slice(low, high), kind
        self.head = trainer.shape.hidden // trainer.shape.heads
        self.tiles = tiles_of(kind, trainer.shape, name)
        like = trainer.weights[name][self.runs]
        self.decays = like.dim() == 4
        runs = trainer.runs[low:high]

        def each(field):
            values = torch.tensor([getattr(run, field) for run in runs])
            return values.to(like.device).view(-1, *[1] * (like.dim() - 1))

        self.epsilon, self.inside = each("epsilon"), each("inside") ** 2
        self.betas = [torch.full_like(self.epsilon, BETA2)]
        self.factored = kind.startswith("factored")
        if self.factored:  # One dimension more, for the tiles.
            self.betas = [each(f)[..., None] for f in ("row_beta", "column_beta")]
        self.limit = each("limit") if any(r.limit < math.inf for r in runs) else None
        blended = any(r.momentum_share + r.current_share for r in runs)
        self.shares = (each("momentum_share"), each("current_share")) if blended else ()
        self.state = [torch.zeros_like(a) for a in self.averages(like)]

    def averages(self, square):
        if self.kind == "element":
            return [square]
        if self.factored:
            tiled = square.unflatten(2, (self.tiles, -1))
            return [tiled.mean(-1, keepdim=True), tiled.mean(-2, keepdim=True)]
        if self.kind == "column":
            return [square.mean(-2, keepdim=True)]
        rows = square.mean(-1, keepdim=True)
        blocked = {"head": rows.size(2), "qkv": rows.size(2) // 3 * 2}.get(self.kind, 0)
        if blocked:
            heads = rows[:, :, :blocked].unflatten(2, (-1, self.head))
            heads = heads.mean(3, keepdim=True).expand_as(heads).flatten(2, 3)
            rows = torch.cat((heads, rows[:, :, blocked:]), 2)
        return [rows]

    def second_moment(self, gradient, t):
        for v, average, beta in zip(
            self.state, self.averages(gradient.square()), self.betas
        ):
            v.lerp_(average, 1 - beta)
        corrected = self.state[-1] / (1 - self.betas[-1] ** t)
        if len(self.state) == 1:
            return corrected
        rows = self.state[0]
        mean = rows.mean(-2, keepdim=True).clamp_min(1e-38)
        return (rows / mean * corrected).flatten(2, 3)

    def update(self, trainer, gradient, rate, t):
        p, m = (x[self.name][self.runs] for x in (trainer.weights, trainer.momentum))
        rate = rate[self.runs].view(-1, *[1] * (p.dim() - 1))
        if self.decays:
            p.mul_(1 - rate * DECAY)
        m.lerp_(gradient, 1 - BETA1)
        mean = m / (1 - BETA1**t)
        v = self.second_moment(gradient, t)
        if self.factored:
            for own, share in zip((mean, gradient), self.shares):
                v = v + share * (own.square() - v)
        step = mean / ((v + self.inside).sqrt() + self.epsilon)
        if self.factored and self.limit is not None:
            step = step.clamp(-self.limit, self.limit)
        p.sub_(step * rate)
