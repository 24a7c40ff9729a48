#include "tools/bench.h"

#include "tools/verbs.h"

namespace zeromini::tools {

void AddBench(CLI::App& app, int* exit_code) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine");
  bench->require_subcommand(1);
  AddBenchKernels(*bench, exit_code);
  AddBenchComm(*bench, exit_code);
  AddBenchStep(*bench, exit_code);
  AddBenchMemory(*bench, exit_code);
}

}  // namespace zeromini::tools
