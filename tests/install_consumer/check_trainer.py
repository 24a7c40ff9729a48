#!/usr/bin/env python3
"""Runs the C trainer on 1 and on 2 ranks: its loss must drop, and be the same."""
import subprocess
import sys

mpiexec, trainer = sys.argv[1:]


def losses(ranks):
    command = [mpiexec, "-n", str(ranks), trainer]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended {done.returncode}:\n{done.stderr}")
    return [float(line.split()[-1]) for line in done.stdout.splitlines()]


one, two = losses(1), losses(2)
print("1 rank: ", one)
print("2 ranks:", two)
if len(one) < 10 or one[-1] > 0.5 * one[0]:
    sys.exit("the loss did not drop to half")
if len(one) != len(two):
    sys.exit("the two runs printed different steps")
# Gradients are summed in another order, so only rounding may differ.
worst = max(abs(a - b) / a for a, b in zip(one, two))
if worst > 1e-3:
    sys.exit(f"the losses differ by {worst:.2e}")
