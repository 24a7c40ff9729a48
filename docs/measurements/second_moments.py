#!/usr/bin/env python3
"""Trains many small language models at once, to compare forms of Adam's v.

    python3 second_moments.py --jobs rates-512 variants --out second_moments.json
    python3 second_moments.py --table --out second_moments.json

Runs that the file has already are not repeated. A group of runs is one model with
a leading dimension: each run has its own seed, learning rate and form of v, and all
share every kernel. Models, text, batches, initial weights, schedule, clipping and
decay are those of `zeromini-train pretrain`; only the update is written anew, in
PyTorch, so this says what a form is worth, not that the runtime computes it.
Needs PyTorch >= 2.4 and Python >= 3.10; uses CUDA if there is any.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import time
import traceback

import torch

from second_moments_model import LENGTH, SEQUENCES, Model, Shape, Text, initial
from second_moments_update import FORMS, Part, Run, kind_of, state_bytes

CLIP = 1.0
RATES = (3.75e-4, 7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2)


class Trainer:
    """Runs of one shape, batch size and number of steps, all in step."""

    def __init__(self, shape, runs, batch, steps, text):
        self.runs = runs = sorted(runs, key=lambda run: list(FORMS).index(run.form))
        self.shape, self.steps, self.text = shape, steps, text
        self.device = device = text.bytes.device
        self.model = Model(shape, len(runs), device)
        seeds = sorted({run.seed for run in runs})
        starts = [initial(shape, seed) for seed in seeds]
        self.seed_of = torch.tensor([seeds.index(r.seed) for r in runs], device=device)
        self.start = {
            n: torch.stack([s[n] for s in starts]).to(device) for n in shape.tensors()
        }
        self.weights = {
            n: s[self.seed_of].requires_grad_() for n, s in self.start.items()
        }
        self.momentum = {n: torch.zeros_like(w) for n, w in self.weights.items()}
        offsets = [text.training_offsets(seed, steps, batch) for seed in seeds]
        self.offsets = torch.stack(offsets).to(device)
        self.held_out = torch.tensor(text.validation_offsets(), device=device)
        self.rates = self.schedule().to(device)
        self.training = torch.zeros(len(runs), steps, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)  # Steps done.
        self.parts = []
        for name in self.weights:
            low = 0
            for kind, same in itertools.groupby(kind_of(r.form, name) for r in runs):
                high = low + len(list(same))
                self.parts.append(Part(self, name, low, high, kind))
                low = high

    def schedule(self):
        """Warm-up of a 20th, then a cosine to a tenth: [steps, runs]."""
        warm = self.steps // 20
        t = torch.arange(1, self.steps + 1, dtype=torch.float64)
        cosine = 0.55 + 0.45 * torch.cos(math.pi * (t - warm) / (self.steps - warm))
        factor = torch.where(t < warm, t / max(1, warm), cosine)
        peaks = torch.tensor([run.rate for run in self.runs], dtype=torch.float64)
        return torch.outer(factor, peaks).float()

    def train_step(self):
        tokens = self.text.at(self.offsets.index_select(1, self.step)[:, 0])
        losses = self.model.losses(self.weights, tokens[self.seed_of])
        found = torch.autograd.grad(losses.sum(), list(self.weights.values()))
        gradients = dict(zip(self.weights, found))
        with torch.no_grad():
            self.training.index_copy_(1, self.step, losses[:, None])
            rate = self.rates.index_select(0, self.step)[0]
            self.step.add_(1)
            norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in found]
            norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
            scale = (CLIP / (norm + 1e-6)).clamp_max(1)
            for g in found:
                g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))
            for part in self.parts:
                part.update(self, gradients[part.name][part.runs], rate, self.step)

    @torch.no_grad()
    def validate(self):
        sums = 0
        for offsets in self.held_out.split(64):
            tokens = self.text.at(offsets).expand(len(self.runs), -1, -1)
            sums = sums + self.model.losses(self.weights, tokens) * len(offsets)
        return (sums / SEQUENCES).tolist()

    @torch.no_grad()
    def reset(self):
        for name, start in self.start.items():
            self.weights[name].copy_(start[self.seed_of])
            self.momentum[name].zero_()
        for tensor in (self.step, *(v for part in self.parts for v in part.state)):
            tensor.zero_()

    def captured(self):
        """A call that does one step: on CUDA as a graph, since launches cost more."""
        if self.device.type != "cuda":
            return self.train_step
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.train_step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.train_step()
        self.reset()
        return graph.replay

    def train(self, seconds, log):
        """Losses of each run: validation every 600 steps and at the end, then
        training over the last 50. None if it would take longer than `seconds`."""
        step = self.captured()
        validation = []
        for done in range(1, self.steps + 1):
            step()
            if done == 20:
                self.training[0, 0].item()  # Waits for the device.
                begin = time.time()
            if done == 40:
                self.training[0, 0].item()
                expected = (time.time() - begin) / 20 * self.steps
                log(f"{expected:.0f} s expected, {seconds:.0f} s left")
                if expected > seconds:
                    return None
            if done % 600 == 0 or done == self.steps:
                validation.append(self.validate())
        columns = [*validation, self.training[:, -50:].mean(1).tolist()]
        return [[round(x, 4) for x in losses] for losses in zip(*columns)]


@dataclasses.dataclass(frozen=True)
class Job:
    shape: Shape
    runs: list
    sequences: int  # A step.
    steps: int
    matmul: str = "tf32"  # On CUDA; or "fp32".


def over(forms, rates, seeds, **changed):
    return [Run(f, r, s, **changed) for f in forms for r in rates for s in seeds]


def variants(rates, seeds):
    """Of "factored": first of its numbers, then of its form."""
    changes = [{}]
    changes += [{"column_beta": b} for b in (0.99, 0.999)]
    changes += [{"row_beta": b, "column_beta": b} for b in (0.9, 0.99, 0.999)]
    changes += [{"epsilon": e} for e in (1e-6, 1e-10)]
    changes += [{"epsilon": 0.0, "inside": 1e-8}]
    changes += [{"limit": x} for x in (1.0, 2.0)]
    changes += [{"momentum_share": x} for x in (0.1, 0.3)]
    changes += [{"current_share": x} for x in (0.05, 0.2)]
    runs = [run for c in changes for run in over(["factored"], rates, seeds, **c)]
    later = ("embedding by token", "head by token", THIRDS)
    return runs + over([f for f in FORMS if f not in (*MAIN, *later)], rates, seeds)


def finalists(rates, seeds):
    """Chosen among the variants, and run with seeds that chose nothing."""
    forms = (*BEST, "embedding by token", "head by token")
    runs = over(forms, rates, seeds)
    runs += over(BEST[1:], rates, seeds, momentum_share=0.3)
    runs += over(BEST[2:], rates, seeds, limit=1.0)
    return runs + over(BEST[2:], rates, seeds, column_beta=0.99)


LLAMA = Shape()
GPT2 = Shape("gpt2", kv_heads=4, ffn=512)
LARGER = Shape("llama-10m", hidden=384, layers=6, heads=12, kv_heads=6, ffn=1056)
MAIN = ("adamw", "adam-mini", "factored")
BEST = ("adamw", "factored", "tables by token")
THIRDS = "tables by token, qkv in thirds"
FINAL_4096 = over(BEST, [1.5e-3], range(4, 8))
SHARED_4096 = over(BEST[2:], [1.5e-3], range(4, 8), momentum_share=0.3)
FINAL_512 = finalists(RATES[1:3], range(6, 14))
JOBS = {
    "rates-512": [
        Job(LLAMA, over(MAIN, RATES, range(1, 6)), 8, 600),
        Job(LLAMA, over(MAIN, RATES, range(1, 6)), 8, 2400),
    ],
    "fp32": [Job(LLAMA, over(MAIN, [1.5e-3], range(1, 6)), 8, 600, "fp32")],
    "rates-4096": [
        Job(LLAMA, over(MAIN, RATES[1:], range(1, 4)), 64, 600),
        Job(LLAMA, over(MAIN, RATES[1:], range(1, 4)), 64, 2400),
    ],
    "variants": [Job(LLAMA, variants(RATES[2:4], range(1, 4)), 8, 2400)],
    "gpt2": [
        Job(GPT2, over(MAIN, RATES[2:5], range(1, 4)), 8, 600),
        Job(GPT2, over(MAIN, RATES[2:5], range(1, 4)), 8, 2400),
    ],
    "finalists": [
        Job(LLAMA, FINAL_512 + over(BEST, RATES[3:5], range(6, 9)), 8, 2400),
        Job(LLAMA, FINAL_4096 + SHARED_4096, 64, 2400),
        Job(LLAMA, FINAL_512, 8, 600),
        Job(LLAMA, FINAL_4096, 64, 600),
        Job(GPT2, over((*BEST, THIRDS), [3e-3], range(4, 10)), 8, 600),
        Job(GPT2, over((*BEST, THIRDS), [3e-3], range(4, 10)), 8, 2400),
    ],
    "larger": [
        Job(LARGER, over((*MAIN, BEST[2]), [5e-4, 1e-3, 2e-3], range(1, 3)), 16, 2400)
    ],
}


class Results:
    """Losses by setting, form, rate and seed, kept in a file."""

    def __init__(self, path):
        self.path, self.head, self.losses = path, {}, {}
        if os.path.exists(path):
            with open(path) as file:
                self.head = json.load(file)
            for *key, seeds in self.head.pop("runs"):
                self.losses[tuple(key)] = {int(s): x for s, x in seeds.items()}

    @staticmethod
    def key(job, run):
        tokens = job.sequences * LENGTH
        return (job.shape.name, tokens, job.steps, job.matmul, run.label(), run.rate)

    def missing(self, job):
        return [
            r for r in job.runs if r.seed not in self.losses.get(self.key(job, r), {})
        ]

    def add(self, job, run, losses):
        self.losses.setdefault(self.key(job, run), {})[run.seed] = losses

    def save(self):
        lines = [json.dumps([*key, seeds]) for key, seeds in self.losses.items()]
        head = json.dumps(self.head)[1:-1]
        with open(self.path, "w") as file:
            file.write('{%s, "runs": [\n%s\n]}\n' % (head, ",\n".join(lines)))


def train_all(args, results):
    begin = time.time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results.head = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "columns": "model, tokens a step, steps, matmul, form, rate, {seed: [validation "
        "every 600 steps and at the end, then training over the last 50 steps]}",
    }
    text = Text(args.text, device)

    def log(message):
        print(f"{time.time() - begin:6.1f} s  {message}", flush=True)

    for name, job in ((n, j) for n in args.jobs for j in JOBS[n]):
        runs = results.missing(job)
        log(f"{name}: {len(runs)} runs of {job.steps} steps, {job.sequences} sequences")
        if not runs:
            continue
        torch.backends.cuda.matmul.allow_tf32 = job.matmul == "tf32"
        try:
            trainer = Trainer(job.shape, runs, job.sequences, job.steps, text)
            found = trainer.train(args.seconds - (time.time() - begin), log)
            for run, losses in zip(trainer.runs, found or ()):
                results.add(job, run, losses)
            results.save()
        except RuntimeError:  # Out of memory, say: the other jobs may fit.
            log(traceback.format_exc())
        trainer = None
        if device.type == "cuda":
            torch.cuda.empty_cache()


def gap(losses, base):
    """Per cent, mean and standard error over the seeds that both have."""
    found = [100 * (losses[s][-2] / base[s][-2] - 1) for s in losses if s in base]
    if len(found) < 2:
        return "" if not found else f"{found[0]:+.2f} (1)"
    error = statistics.stdev(found) / math.sqrt(len(found))
    return f"{statistics.mean(found):+.2f} ± {error:.2f} ({len(found)})"


def print_tables(results):
    """Markdown: each form at its best rate; then every rate."""

    def mean(losses, column=-2):
        return statistics.mean(x[column] for x in losses.values())

    settings = {}
    for (*setting, form, rate), losses in results.losses.items():
        settings.setdefault(tuple(setting), {}).setdefault(form, {})[rate] = losses
    for setting, forms in settings.items():
        best = {f: min(rates, key=lambda r: mean(rates[r])) for f, rates in forms.items()}
        base = forms["adamw"][best["adamw"]]
        print("\n{}, {} tokens a step, {} steps, {}\n".format(*setting))
        print("| form | best rate | validation | training | against adamw, % (seeds) |")
        print("|---|---|---|---|---|")
        for form, rate in best.items():
            losses = forms[form][rate]
            spread = statistics.stdev(x[-2] for x in losses.values())
            values = f"{mean(losses):.4f} ± {spread:.4f} | {mean(losses, -1):.4f}"
            print(f"| {form} | {rate:g} | {values} | {gap(losses, base)} |")
        used = sorted({r for rates in forms.values() for r in rates})
        print("\n| mean validation (against factored, % (pairs of seeds)) |", end="")
        print(" | ".join(f"{r:g}" for r in used), "|\n|" + "---|" * (len(used) + 1))
        for form, rates in forms.items():
            cells = (
                f"{mean(rates[r]):.4f} ({gap(rates[r], forms['factored'].get(r, {}))})"
                if r in rates
                else ""
                for r in used
            )
            print(f"| {form} | {' | '.join(cells)} |")


def print_state(shapes=(LLAMA, GPT2, LARGER)):
    print("| bytes of state per parameter |", " | ".join(s.name for s in shapes), "|")
    print("|" + "---|" * (len(shapes) + 1))
    for form in FORMS:
        cells = (f"{state_bytes(shape, form):.4f}" for shape in shapes)
        print(f"| {form} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", default="/usr/share/doc/jargon-text/jargon.txt.gz")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seconds", type=float, default=1e9, help="Skip what is longer")
    parser.add_argument("--out", default="second_moments.json")
    parser.add_argument("--table", action="store_true", help="Print what --out holds")
    args = parser.parse_args()
    results = Results(args.out)
    if args.table:
        print_state()
        print_tables(results)
    else:
        train_all(args, results)


if __name__ == "__main__":
    main()
