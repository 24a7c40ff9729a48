// zeromini info: what this build and this machine offer, one line each.

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tools/build_facts.h"
#include "tools/verbs.h"
#include "zeromini/group.h"
#include "zeromini/kernels.h"

namespace zeromini::tools {
namespace {

struct Fact {
  const char* name;
  bool available;
  std::string text;  // What it is, or why it is absent.
};

std::vector<Fact> Facts() {
  bool mpi = false;
  bool nccl = false;
  const std::string mpi_text = MpiDescription(&mpi);
  const std::string nccl_text = NcclDescription(&nccl);
  return {
      {"version", true, kVersion},
      {"compiler", true, kCompiler},
      {"cpu kernels", true, CpuLevel()},
      {"threads", true, "ranks as threads of one process"},
      {"mpi", mpi, mpi_text},
      {"nccl", nccl, nccl_text},
      {"cuda", false, kCuda},
      {"libtorch", kTorchFound, kTorch},
  };
}

int Info(const std::string& json_file) {
  nlohmann::json json = nlohmann::json::object();
  for (const Fact& fact : Facts()) {
    std::printf("%-12s %s%s\n", fact.name,
                fact.available ? "" : "absent: ", fact.text.c_str());
    json[fact.name] = {{"available", fact.available}, {"text", fact.text}};
  }
  if (json_file.empty()) return 0;
  std::ofstream file(json_file);
  file << json.dump(2) << "\n";
  if (file.flush()) return 0;
  std::fprintf(stderr, "zeromini info: %s: cannot be written\n",
               json_file.c_str());
  return 2;
}

}  // namespace

void AddInfo(CLI::App& app, int* exit_code) {
  CLI::App* verb = app.add_subcommand(
      "info", "version, backends built in, CPU level, what is absent and why");
  auto json = std::make_shared<std::string>();
  verb->add_option("--json", *json, "writes the same to this file");
  verb->callback([json, exit_code] { *exit_code = Info(*json); });
}

}  // namespace zeromini::tools
