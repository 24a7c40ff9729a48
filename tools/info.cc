// zeromini info: what this build and this machine offer, one line each.

#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tools/build_facts.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/report/table.h"
#include "tools/verbs.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"
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

absl::Status Info(const std::string& json_file) {
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(json_file));
  nlohmann::json json = nlohmann::json::object();
  const Table table = {{{"", Align::kLeft, 11}, {"", Align::kLeft}}, {}};
  for (const Fact& fact : Facts()) {
    const std::string text =
        absl::StrCat(fact.available ? "" : "absent: ", fact.text);
    std::printf("%s", table.Line({fact.name, text}).c_str());
    json[fact.name] = {{"available", fact.available}, {"text", fact.text}};
  }
  return WriteJson(json_file, json);
}

}  // namespace

void AddInfo(CLI::App& app, int* exit_code) {
  CLI::App* verb = app.add_subcommand(
      "info", "version, backends built in, CPU level, what is absent and why");
  auto json = std::make_shared<std::string>();
  verb->add_option("--json", *json, "writes the same to this file");
  verb->callback([json, exit_code] {
    *exit_code = ReportStatus("zeromini info", Info(*json));
  });
}

}  // namespace zeromini::tools
