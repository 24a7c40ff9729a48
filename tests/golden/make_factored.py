#!/usr/bin/env python3
"""Golden vectors of factored second moments, in NumPy alone.

    python3 make_factored.py            # writes I_factored and J_factored_fused
    python3 make_factored.py --check    # compares instead; 1 if they differ

The definition, for each matrix of n rows and k columns with its gradient g, in
float64 and rounded to float32 where something is kept:

    r_i = b2 r_i + (1-b2) mean_j(g_ij^2)
    c_j = b2 c_j + (1-b2) mean_i(g_ij^2)
    v_ij = r_i c_j / mean(c)
    p_ij = p_ij (1 - lr wd)
    m_ij = m_ij + (1-b1) (g_ij - m_ij)
    p_ij = p_ij - lr/(1-b1^t) m_ij / (sqrt(v_ij)/sqrt(1-b2^t) + eps)

Vectors have v per element, averaged from g^2. A tensor without a gradient is
left alone, and so is its t.
"""

import argparse
import json
import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
HYPER = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8,
         "weight_decay": 0.1}


def read_tensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", name
        begin, end = (8 + size + at for at in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], "<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def safetensors_bytes(tensors):
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape),
                        "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(t.astype("<f4").tobytes() for t in tensors.values())
    return struct.pack("<Q", len(text)) + text + body


def stored(values):
    return values.astype(np.float32).astype(np.float64)


class Tensor:
    """One parameter: a vector, or matrices that lie one below another."""

    def __init__(self, weight, matrix_rows, padding_rows=0, decay=0.0):
        self.shape = weight.shape
        self.columns = weight.shape[-1]
        self.is_vector = weight.ndim == 1
        self.p = weight.astype(np.float64).reshape(-1, self.columns)
        self.m = np.zeros_like(self.p)
        self.matrix_rows = matrix_rows
        self.padding_rows = padding_rows
        self.decay = decay
        self.t = 0
        self.v = np.zeros(self.columns)
        self.r = np.zeros(len(self.p))
        self.c = np.zeros((len(matrix_rows), self.columns))

    def second_moment(self, square):
        b2 = HYPER["beta2"]
        if self.is_vector:
            self.v = stored(b2 * self.v + (1 - b2) * square[0])
            return self.v[None]
        self.r = stored(b2 * self.r + (1 - b2) * square.mean(1))
        v, begin = np.empty_like(square), 0
        for i, rows in enumerate(self.matrix_rows):
            part = slice(begin, begin + rows)
            real = rows - self.padding_rows
            mean = square[part].sum(0) / real
            self.c[i] = stored(b2 * self.c[i] + (1 - b2) * mean)
            v[part] = np.outer(self.r[part], self.c[i]) / self.c[i].mean()
            begin += rows
        return v

    def step(self, gradient, lr):
        g = gradient.astype(np.float64).reshape(-1, self.columns)
        b1, b2 = HYPER["beta1"], HYPER["beta2"]
        self.t += 1
        v = self.second_moment(g * g)
        root = np.sqrt(v) / np.sqrt(1 - b2 ** self.t) + HYPER["eps"]
        m = self.m + (1 - b1) * (g - self.m)
        p = self.p * (1 - lr * self.decay)
        self.p = stored(p - lr / (1 - b1 ** self.t) * m / root)
        self.m = stored(m)

    def state(self, name):
        yield "m/" + name, self.m.reshape(self.shape)
        if self.is_vector:
            yield "v/" + name, self.v
        else:
            yield "r/" + name, self.r
            one = len(self.matrix_rows) == 1
            yield "c/" + name, self.c[0] if one else self.c


class Folder:
    """Writes files, or compares them with those that are there."""

    def __init__(self, path, check):
        self.path, self.check, self.differs = path, check, []

    def put(self, name, data):
        if not self.check:
            self.path.mkdir(exist_ok=True)
            (self.path / name).write_bytes(data)
        elif (self.path / name).read_bytes() != data:
            self.differs.append(str(self.path / name))

    def put_meta(self, meta):
        self.put("meta.json", (json.dumps(meta, indent=1) + "\n").encode())


def run(folder, tensors, gradients, rates, saved):
    for step, (lr, given) in enumerate(zip(rates, gradients), 1):
        for name, gradient in given.items():
            tensors[name].step(gradient, lr)
        if step in saved:
            weights = {n: t.p.reshape(t.shape) for n, t in tensors.items()}
            folder.put(f"params_{step:02}.safetensors",
                       safetensors_bytes(as_floats(weights)))
    state = dict(pair for n, t in tensors.items() for pair in t.state(n))
    folder.put(f"state_{len(rates):02}.safetensors",
               safetensors_bytes(as_floats(state)))


def as_floats(tensors):
    return {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items()}


def parameters_of(tensors):
    return [{"name": name, "shape": list(t.shape), "requires_grad": True,
             "class": "vector" if t.is_vector else "factored",
             "matrix_rows": t.matrix_rows, "padding_rows": t.padding_rows,
             "weight_decay": t.decay, "steps_taken": t.t}
            for name, t in tensors.items()]


def make_i(check):
    """Weights, gradients and hyper-parameters of A."""
    source = HERE / "A_llama_gqa_hf"
    meta = json.loads((source / "meta.json").read_text())
    assert all(meta["hyperparameters"][k] == v for k, v in HYPER.items())
    weights = read_tensors(source / "params_00.safetensors")
    tensors = {}
    for entry in meta["parameters"]:
        weight = weights[entry["name"]]
        rows = [] if weight.ndim == 1 else [weight.shape[0]]
        tensors[entry["name"]] = Tensor(weight, rows,
                                        decay=entry["weight_decay"])
    rates = meta["lr_per_step"]
    gradients = [read_tensors(source / f"grads_{step:02}.safetensors")
                 for step in range(1, len(rates) + 1)]
    saved = [1, 4, 10]
    folder = Folder(HERE / "I_factored", check)
    run(folder, tensors, gradients, rates, saved)
    folder.put_meta({
        "case": "I_factored", "optimizer": "factored", "dtype": "float32",
        "weights": "../A_llama_gqa_hf/params_00.safetensors",
        "gradients": "../A_llama_gqa_hf/grads_TT.safetensors",
        "n_steps": len(rates), "params_after": saved,
        "hyperparameters": dict(HYPER, **{
            k: meta["hyperparameters"][k]
            for k in ("dim", "n_heads", "n_kv_heads")}),
        "lr_per_step": rates, "absent_grads": {},
        "parameters": parameters_of(tensors)})
    return folder.differs


def random_floats(key, shape):
    """Fractions of 2^12 in [-1, 1), by splitmix64 of a counter, each row and
    column at a power of 2 of its own."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(key << 32) + (
            np.arange(1, count + 1, dtype=np.uint64)
            * np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = ((z >> np.uint64(51)).astype(np.float64) / 2 ** 12 - 1)
    values = values.reshape(-1, shape[-1])
    by_row = np.exp2(-(np.arange(values.shape[0]) * 5 % 7.0))
    by_column = np.exp2(-(np.arange(values.shape[1]) * 3 % 5.0))
    return (values * np.outer(by_row, by_column)).reshape(shape)


def j_shapes():
    """Rows of each matrix, and padding rows."""
    return {"embed_tokens.weight": ((40, 24), [40], 7),
            "attn.qkv_proj.weight": ((48, 24), [24, 12, 12], 0),
            "experts.weight": ((3, 8, 24), [8, 8, 8], 0),
            "norm.weight": ((24,), [], 0)}


def without_padding(values, padding):
    if padding:
        values[-padding:] = 0
    return values.astype(np.float32)


def make_j(check):
    """Q, K and V in one tensor, slices in one tensor, padding rows, absent
    gradients."""
    rates = [0.002, 0.004, 0.003, 0.002, 0.001]
    absent = {2: ["attn.qkv_proj.weight"], 3: ["experts.weight", "norm.weight"]}
    tensors, weights = {}, {}
    gradients = [{} for _ in rates]
    for index, (name, spec) in enumerate(j_shapes().items()):
        shape, rows, padding = spec
        weight = random_floats(100 + index, shape)
        weights[name] = without_padding(weight, padding)
        tensors[name] = Tensor(weights[name], rows, padding,
                               0.0 if len(shape) == 1 else 0.1)
        for step, given in enumerate(gradients, 1):
            if name not in absent.get(step, []):
                gradient = random_floats(1000 * step + index, shape)
                given[name] = without_padding(gradient, padding)
    folder = Folder(HERE / "J_factored_fused", check)
    folder.put("params_00.safetensors", safetensors_bytes(as_floats(weights)))
    for step, given in enumerate(gradients, 1):
        folder.put(f"grads_{step:02}.safetensors", safetensors_bytes(given))
    run(folder, tensors, gradients, rates, range(1, len(rates) + 1))
    folder.put_meta({
        "case": "J_factored_fused", "optimizer": "factored",
        "dtype": "float32", "n_steps": len(rates), "hyperparameters": HYPER,
        "lr_per_step": rates, "absent_grads": absent,
        "parameters": parameters_of(tensors)})
    return folder.differs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    differs = make_i(check) + make_j(check)
    for path in differs:
        print(f"{path} is not what is computed here", file=sys.stderr)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
