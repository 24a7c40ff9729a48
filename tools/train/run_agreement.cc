#include "tools/train/run_agreement.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/agree_on.h"
#include "tools/files/json_file.h"
#include "tools/train/run_files.h"

namespace zeromini::tools {
namespace {

void AddFacts(const nlohmann::json& json, const std::string& prefix,
              Facts& facts) {
  for (const auto& item : json.items()) {
    const std::string name = prefix + item.key();
    if (item.value().is_object()) {
      AddFacts(item.value(), name + ".", facts);
    } else {
      facts.emplace_back(name, JsonText(item.value()));
    }
  }
}

}  // namespace

absl::Status AgreeOnRun(const PretrainOptions& options, const TextData& data,
                        Communicator& group) {
  Facts facts = {{"version", ZEROMINI_VERSION}};
  nlohmann::json told = ToJson(options);
  for (const char* own : {"data", "threads"}) told.erase(own);
  AddFacts(told, "", facts);
  facts.emplace_back(
      "text", absl::StrFormat("%d bytes of hash %016x",
                              data.training_tokens() + data.validation_tokens(),
                              data.hash()));
  const absl::Status agreed = AgreeOnFacts(facts, group);
  if (!absl::IsInvalidArgument(agreed)) return agreed;
  return absl::InvalidArgumentError(absl::StrCat(
      agreed.message(),
      ": give all ranks of a run the same options, config and text"));
}

}  // namespace zeromini::tools
