// zeromini bench memory: what weights and state take at rest, and a step at its
// peak, counted by the runtime and seen by the kernel.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/bench.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/held_memory.h"
#include "tools/optimizer_choice.h"
#include "tools/report/table.h"
#include "tools/scaled_preset.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::ordered_json;

struct MemoryFlags {
  std::string model;
  std::string scale = "1";
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  std::vector<std::string> second_moments = {"official"};
  int ranks = 2;
  int64_t bucket_bytes = int64_t{64} << 20;
  std::string json;
};

// fp32 weights have no use for a master; bf16 ones take each.
std::vector<MemoryCase> CasesOf(const MemoryFlags& flags,
                                const OptimizerChoice& optimizer) {
  std::vector<MemoryCase> cases;
  const auto add = [&](DType dtype, MasterFormat master) {
    for (StateFormat state :
         {StateFormat::kFloat32, StateFormat::kBFloat16, StateFormat::kInt8}) {
      cases.push_back({optimizer, dtype, master, state, 1, 1, 0});
      cases.push_back({optimizer, dtype, master, state, 3, flags.ranks,
                       flags.bucket_bytes});
    }
  };
  add(DType::kFloat32, MasterFormat::kNone);
  for (MasterFormat master :
       {MasterFormat::kNone, MasterFormat::kFloat32, MasterFormat::kRemainder16,
        MasterFormat::kRemainder8}) {
    add(DType::kBFloat16, master);
  }
  return cases;
}

Json ToJson(const ModelPreset& model, const MemoryCase& choice,
            const HeldMemory& held) {
  const auto per_parameter = [&](int64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(held.parameters);
  };
  Json json;
  json["model"] = model.name;
  json["parameters"] = held.parameters;
  json["optimizer"] = choice.optimizer.name();
  json["dtype"] = DTypeName(choice.dtype);
  json["master_format"] = MasterFormatName(choice.master);
  json["state_format"] = StateFormatName(choice.state);
  json["stage"] = choice.stage;
  json["ranks"] = choice.ranks;
  json["bytes_per_parameter"] = per_parameter(held.at_rest());
  json["bytes_per_parameter_expected"] = per_parameter(held.expected);
  json["bytes_at_rest"] = {{"weights", held.weights},
                           {"master", held.master},
                           {"momentum", held.momentum},
                           {"second_moment", held.second_moment},
                           {"expected", held.expected}};
  json["gradient_bytes_per_rank"] = held.gradients;
  json["gather_budget_bytes"] = held.gather_budget;
  json["peak_bytes_per_rank"] = held.peak;
  json["peak_bytes_expected"] = held.peak_expected;
  json["resident_at_rest_bytes"] = held.resident_at_rest;
  json["resident_peak_bytes"] = held.resident_peak;
  json["update_seconds"] = held.update_seconds;
  return json;
}

// In a process of its own: what one case leaves to the allocator would show in
// the next one's resident set.
absl::StatusOr<Json> RunApart(const ModelPreset& model,
                              const MemoryCase& choice) {
  int ends[2];
  if (pipe(ends) != 0) return absl::InternalError("no pipe could be made");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return absl::InternalError("no process could be started");
  if (child == 0) {
    close(ends[0]);
    const auto held = HoldMemory(model, choice);
    const std::string text =
        JsonText(held.ok() ? ToJson(model, choice, *held)
                           : Json(std::string(held.status().message())));
    const ssize_t written = write(ends[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return absl::ResourceExhaustedError(absl::StrCat(
      choice.optimizer.name(), ", stage ", choice.stage, ": ",
      json.is_string() ? json.get<std::string>()
                       : absl::StrCat("the process ended with ", status,
                                      "; is there too little memory?")));
}

Table EmptyTable() {
  return {{{"optimizer", Align::kLeft, 9},
           {"dtype", Align::kLeft, 5},
           {"master", Align::kLeft, 11},
           {"state", Align::kLeft, 5},
           {"stage", Align::kRight, 5},
           {"ranks", Align::kRight, 5},
           {"B/param", Align::kRight, 9},
           {"expected", Align::kRight, 9},
           {"peak MiB", Align::kRight, 9},
           {"/expect", Align::kRight, 7},
           {"resident MiB", Align::kRight, 12}},
          {}};
}

std::vector<std::string> CellsOf(const Json& json) {
  constexpr double kMebibyte = 1 << 20;
  const auto text = [&json](const char* key) {
    return json[key].get<std::string>();
  };
  const auto count = [&json](const char* key) {
    return absl::StrCat(json[key].get<int>());
  };
  const auto bytes = [&json](const char* key) {
    return absl::StrFormat("%.5f", json[key].get<double>());
  };
  const double peak = json["peak_bytes_per_rank"].get<double>();
  const double resident = json["resident_peak_bytes"].get<double>();
  const double ratio = peak / json["peak_bytes_expected"].get<double>();
  return {text("optimizer"),
          text("dtype"),
          text("master_format"),
          text("state_format"),
          count("stage"),
          count("ranks"),
          bytes("bytes_per_parameter"),
          bytes("bytes_per_parameter_expected"),
          absl::StrFormat("%.1f", peak / kMebibyte),
          absl::StrFormat("%.4f", ratio),
          absl::StrFormat("%.1f", resident / kMebibyte)};
}

absl::Status Run(const MemoryFlags& flags) {
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(flags.json));
  ZEROMINI_ASSIGN_OR_RETURN(const ModelPreset model,
                            FindScaledPreset(flags.model, flags.scale));
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<OptimizerChoice> optimizers,
                            ChoicesOf(flags.optimizers, flags.second_moments));
  const Table table = EmptyTable();
  std::printf(
      "%s: bytes at rest, without gradients; peak and resident of one step\n%s",
      ForTerminal(model.name).c_str(), table.Header().c_str());
  Json rows = Json::array();
  for (const OptimizerChoice& optimizer : optimizers) {
    for (const MemoryCase& choice : CasesOf(flags, optimizer)) {
      ZEROMINI_ASSIGN_OR_RETURN(Json row, RunApart(model, choice));
      std::printf("%s", table.Line(CellsOf(row)).c_str());
      std::fflush(stdout);
      rows.push_back(std::move(row));
    }
  }
  return WriteJson(flags.json, rows);
}

constexpr char kDescription[] =
    "Weights and state at rest, and the peak of a step, in every combination "
    "of formats";
constexpr char kFooter[] =
    "Each case runs in a process of its own, on threads as ranks: stage 1 on "
    "one rank, and stage 3.\nA step gathers layer by layer forward and back "
    "and gives a gradient of zeros for each tensor;\nthere is no model. "
    "Expected: what the plan and the options say, "
    "to the byte at rest; the peak is an\nupper bound. Resident: this process, "
    "all ranks, less what\nit had "
    "before.";

}  // namespace

void AddBenchMemory(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand("memory", kDescription);
  verb->footer(kFooter);
  auto flags = std::make_shared<MemoryFlags>();
  verb->add_option("--model", flags->model, "A preset of `zeromini plan`")
      ->required();
  verb->add_option("--scale", flags->scale,
                   "1/k: divides layers and vocabulary, never widths")
      ->capture_default_str();
  verb->add_option("--optimizer", flags->optimizers,
                   "Any of adam-mini, adamw, sgd")
      ->delimiter(',')
      ->capture_default_str();
  AddSecondMomentFlag(verb, &flags->second_moments);
  verb->add_option("--ranks", flags->ranks, "Of stage 3")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  AddSize(verb, "--bucket-bytes", &flags->bucket_bytes,
          "Of stage 3: about how large a bucket is, as 64MiB; 0: by the "
          "planner");
  verb->add_option("--json", flags->json, "Also writes the rows to this file");
  verb->callback([flags, exit_code] {
    *exit_code = ReportStatus("zeromini bench memory", Run(*flags));
  });
}

}  // namespace zeromini::tools
