// The sub-verbs of `zeromini bench`, one file each.

#ifndef ZEROMINI_TOOLS_BENCH_H_
#define ZEROMINI_TOOLS_BENCH_H_

#include "CLI/CLI.hpp"

namespace zeromini::tools {

// Adds `bench kernels`: the update kernels on this CPU, against each other and
// against plain streams of the same bytes.
void AddBenchKernels(CLI::App& bench, int* exit_code);

// Adds `bench comm`: collectives, ours and the MPI library's.
void AddBenchComm(CLI::App& bench, int* exit_code);

// Adds `bench step`: whole steps, ours and a replicated AdamW's.
void AddBenchStep(CLI::App& bench, int* exit_code);

// Adds `bench memory`: bytes that weights and state take at rest, and a step at
// its peak, in every combination of formats.
void AddBenchMemory(CLI::App& bench, int* exit_code);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_H_
