// Flags of a layout: the same words in every program that has them.

#ifndef ZEROMINI_TOOLS_LAYOUT_FLAGS_H_
#define ZEROMINI_TOOLS_LAYOUT_FLAGS_H_

#include "CLI/CLI.hpp"
#include "zeromini/options.h"

namespace zeromini::tools {

// --blocks, --bucketing, --bucket-bytes, --buffer-budget, --copy-cost and
// --collective-cost, into `options`, which holds the defaults and must outlive
// the parse.
void AddLayoutFlags(CLI::App* verb, OptimizerOptions* options);

// What they are called there, and in JSON.
const char* WordOf(BlockCuts blocks);
const char* WordOf(Bucketing bucketing);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_LAYOUT_FLAGS_H_
