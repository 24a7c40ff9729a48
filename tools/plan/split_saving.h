// What a plan would save if its blocks could be cut.

#ifndef ZEROMINI_TOOLS_PLAN_SPLIT_SAVING_H_
#define ZEROMINI_TOOLS_PLAN_SPLIT_SAVING_H_

#include <nlohmann/json.hpp>
#include <string>

namespace zeromini::tools {

// By two objects of DescribePlan(), of kWhole and of kSplitAtCuts: what the
// second has less of, negative where it has more.
nlohmann::ordered_json SplitSaving(const nlohmann::ordered_json& whole,
                                   const nlohmann::ordered_json& split);

// For people, with the end of its line; empty if nothing is less.
std::string SplitLine(const nlohmann::ordered_json& saving);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_PLAN_SPLIT_SAVING_H_
