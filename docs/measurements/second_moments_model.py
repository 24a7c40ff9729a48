"""The trainer's models, text and initial weights, for many runs at once.

Of tools/train/{model_config,llama,gpt2,text_data}.cc: at the same seed a run has
the same initial weights and the same batches as there. Every weight has a leading
dimension of runs, so that all runs share every kernel.
"""

import dataclasses
import gzip
import math

import torch
import torch.nn.functional as F

VOCAB, CONTEXT, LENGTH, SEQUENCES = 256, 128, 64, 1024  # The last: validation.
TABLES = ("embed", "head", "positions")  # Their rows are tokens, or positions.


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model; the names are those of the results."""

    name: str = "llama-1m"
    hidden: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 352

    def tensors(self):
        """Shapes by name, in the trainer's order; dimension 0 is layers."""
        c, n, f = self.hidden, self.layers, self.ffn
        kv = c // self.heads * self.kv_heads
        if self.name == "gpt2":  # Stored [out, in] here; the head is tied.
            return {
                "embed": (1, VOCAB, c), "positions": (1, CONTEXT, c),
                "norm1": (n, c), "norm1_bias": (n, c),
                "qkv": (n, 3 * c, c), "qkv_bias": (n, 3 * c),
                "o": (n, c, c), "o_bias": (n, c),
                "norm2": (n, c), "norm2_bias": (n, c),
                "up": (n, f, c), "up_bias": (n, f),
                "down": (n, c, f), "down_bias": (n, c),
                "norm": (1, c), "norm_bias": (1, c),
            }  # fmt: skip
        return {
            "embed": (1, VOCAB, c), "norm1": (n, c), "q": (n, c, c),
            "k": (n, kv, c), "v": (n, kv, c), "o": (n, c, c), "norm2": (n, c),
            "gate": (n, f, c), "up": (n, f, c), "down": (n, c, f),
            "norm": (1, c), "head": (1, VOCAB, c),
        }  # fmt: skip


def mix(x):
    """splitmix64's finaliser, on int64 tensors that wrap."""

    def signed(u):
        return u - (1 << 64) if u >= 1 << 63 else u

    def shifted(v, n):
        return (v >> n) & ((1 << (64 - n)) - 1)

    x = x + signed(0x9E3779B97F4A7C15)
    x = (x ^ shifted(x, 30)) * signed(0xBF58476D1CE4E5B9)
    x = (x ^ shifted(x, 27)) * signed(0x94D049BB133111EB)
    return x ^ shifted(x, 31)


class Text:
    def __init__(self, path, device):
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            data = file.read()
        self.bytes = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
        self.split = len(data) - len(data) // 20
        self.window = torch.arange(LENGTH + 1, device=device)

    def at(self, offsets):
        return self.bytes[offsets[..., None] + self.window].long()

    def training_offsets(self, seed, steps, batch):
        places = self.split - LENGTH
        step = torch.arange(1, steps + 1)[:, None]
        key = mix(mix(mix(torch.tensor(seed)) ^ step) ^ torch.arange(batch))
        # The key is unsigned: 2^64 too small here where it is negative.
        key = key % places + torch.where(key < 0, (1 << 64) % places, 0)
        return key % places

    def validation_offsets(self):
        last = len(self.bytes) - self.split - LENGTH - 1
        return [self.split + last * i // (SEQUENCES - 1) for i in range(SEQUENCES)]


def initial(shape, seed):
    """Tensors by name, each [layers, ...]; normals in the trainer's order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = shape.tensors()
    made = {
        name: torch.full(s, 0.0 if name.endswith("_bias") else 1.0)
        for name, s in sizes.items()
    }
    layered = [n for n, s in sizes.items() if len(s) == 3 and n not in TABLES]
    order = [(n, 0) for n in ("embed", "positions") if n in sizes]
    order += [(n, layer) for layer in range(shape.layers) for n in layered]
    order += [("head", 0)] if "head" in sizes else []
    for name, layer in order:
        stored_in_out = shape.name == "gpt2" and name not in TABLES
        residual = shape.name == "gpt2" and name in ("o", "down")
        std = 0.02 / math.sqrt(2 * shape.layers) if residual else 0.02
        part = made[name][layer]
        drawn = torch.empty(part.T.shape if stored_in_out else part.shape)
        drawn.normal_(0, std, generator=generator)
        part.copy_(drawn.T if stored_in_out else drawn)
    return made


# Below, a weight is [runs, ...] and an activation [runs, tokens, ...].


def linear(x, weight, bias=None):
    if bias is None:
        return torch.bmm(x, weight.transpose(1, 2))
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def rotate(x, turn):
    """x: [sequences, heads, time, dim]; pairs are (i, i + dim / 2)."""
    a, b = x.chunk(2, -1)
    return x * turn[0] + torch.cat((-b, a), -1) * turn[1]


def attend(q, k, v, shape, turn):
    """Each [runs, tokens, heads * dim] -> the same for q."""
    dim = shape.hidden // shape.heads

    def split(x):
        return x.view(-1, LENGTH, x.size(2) // dim, dim).transpose(1, 2)

    q, k, v = split(q), split(k), split(v)
    if turn is not None:
        q, k = rotate(q, turn), rotate(k, turn)
    groups = shape.heads // shape.kv_heads
    if groups > 1:
        k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2)


class Model:
    def __init__(self, shape, runs, device):
        self.shape, self.runs = shape, runs
        dim = shape.hidden // shape.heads
        power = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2)
        angles = torch.outer(torch.arange(LENGTH).double(), 10000**-power).repeat(1, 2)
        self.turn = torch.stack((angles.cos(), angles.sin())).float().to(device)
        self.first = VOCAB * torch.arange(runs, device=device)[:, None]

    def losses(self, weights, tokens):
        """tokens: [runs, sequences, LENGTH + 1] -> mean loss of each run."""
        shape, c = self.shape, self.shape.hidden
        w = {name: value.unbind(1) for name, value in weights.items()}
        inputs = tokens[..., :-1].flatten(1) + self.first
        table = w["embed"][0]
        x = table.flatten(0, 1).index_select(0, inputs.flatten())
        x = x.view(self.runs, -1, c)
        block = self.gpt2_block if shape.name == "gpt2" else self.llama_block
        if "positions" in w:
            places = w["positions"][0][:, :LENGTH]
            x = (x.unflatten(1, (-1, LENGTH)) + places[:, None]).flatten(1, 2)
        for layer in range(shape.layers):
            x = block({n: v[layer] for n, v in w.items() if len(v) > layer}, x)
        last = {n: v[0] for n, v in w.items() if n.startswith("norm")}
        logits = linear(self.norm(last, "norm", x), w.get("head", (table,))[0])
        targets = tokens[..., 1:].flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
        return loss.view(self.runs, -1).mean(1)

    def norm(self, w, name, x):
        if name + "_bias" in w:
            unit = F.layer_norm(x, x.shape[-1:], eps=1e-5)
            return torch.addcmul(w[name + "_bias"][:, None], unit, w[name][:, None])
        return F.rms_norm(x, x.shape[-1:], eps=1e-5) * w[name][:, None]

    def llama_block(self, w, x):
        h = self.norm(w, "norm1", x)
        q, k, v = (linear(h, w[n]) for n in "qkv")
        x = x + linear(attend(q, k, v, self.shape, self.turn).reshape(x.shape), w["o"])
        h = self.norm(w, "norm2", x)
        return x + linear(F.silu(linear(h, w["gate"])) * linear(h, w["up"]), w["down"])

    def gpt2_block(self, w, x):
        qkv = linear(self.norm(w, "norm1", x), w["qkv"], w["qkv_bias"])
        mixed = attend(*qkv.chunk(3, -1), self.shape, None).reshape(x.shape)
        x = x + linear(mixed, w["o"], w["o_bias"])
        h = linear(self.norm(w, "norm2", x), w["up"], w["up_bias"])
        return x + linear(F.gelu(h, approximate="tanh"), w["down"], w["down_bias"])
