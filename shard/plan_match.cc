#include "shard/plan_match.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace zeromini {
namespace {

constexpr size_t kMostNamed = 16;

using Indices = std::map<std::string, int>;

Indices IndicesOf(const Plan& plan) {
  Indices indices;
  for (size_t i = 0; i < plan.params.size(); ++i) {
    indices.emplace(plan.params[i].name, static_cast<int>(i));
  }
  return indices;
}

std::string Shape(const PlannedParam& param) {
  return absl::StrCat("[", absl::StrJoin(param.shape, ", "), "]");
}

std::set<std::string> SharersOf(const Plan& plan, const PlannedParam& param) {
  std::set<std::string> names;
  for (int sharer : plan.params[param.owner].sharers) {
    names.insert(plan.params[sharer].name);
  }
  return names;
}

// What blocks are called does not matter here.
bool SameBlocks(const BlockSegment& a, const BlockSegment& b) {
  return a.rows == b.rows && a.rows_per_block == b.rows_per_block &&
         a.form == b.form;
}

// Nor what travels.
bool SameState(const UnitSegment& a, const UnitSegment& b) {
  return a.rows == b.rows && a.rows_per_unit == b.rows_per_unit &&
         a.state_elements == b.state_elements;
}

bool SameSegments(const PlannedParam& a, const PlannedParam& b) {
  return a.element_state == b.element_state &&
         std::equal(a.blocks.begin(), a.blocks.end(), b.blocks.begin(),
                    b.blocks.end(), SameBlocks);
}

bool SameUnits(const PlannedParam& a, const PlannedParam& b) {
  return std::equal(a.units.begin(), a.units.end(), b.units.begin(),
                    b.units.end(), SameState);
}

std::string BlocksText(const PlannedParam& param) {
  if (param.element_state) return "a second moment per element";
  const auto append = [](std::string* out, const BlockSegment& s) {
    if (s.form != MomentForm::kBlocks) {
      absl::StrAppend(out, s.rows, " ", MomentFormName(s.form));
      return;
    }
    absl::StrAppend(out, s.rows / s.rows_per_block, "x", s.rows_per_block);
  };
  return absl::StrCat("blocks of ", absl::StrJoin(param.blocks, " + ", append),
                      " rows");
}

std::string UnitsText(const PlannedParam& param) {
  return absl::StrCat(StateElements(param, 0, param.rows),
                      " elements of momentum in units of ",
                      param.units.front().rows_per_unit, " rows");
}

// How the state of what owns the storage differs; empty: not at all.
std::string StateDifference(const PlannedParam& from, const PlannedParam& to) {
  if (from.algorithm != to.algorithm) {
    return absl::StrCat("had the state of ", AlgorithmName(from.algorithm),
                        ", now ", AlgorithmName(to.algorithm));
  }
  if (!SameSegments(from, to)) {
    return absl::StrCat("had ", BlocksText(from), ", now ", BlocksText(to));
  }
  if (SameUnits(from, to)) return "";
  return absl::StrCat("had ", UnitsText(from), ", now ", UnitsText(to));
}

std::string Turned(bool now, const std::string& what) {
  return now ? absl::StrCat("is ", what, ", was not")
             : absl::StrCat("was ", what, ", is not");
}

// How `to` differs from the parameter of its name; empty: not at all.
std::string Difference(const Plan& from_plan, const PlannedParam& from,
                       const Plan& to_plan, const PlannedParam& to) {
  if (from.shape != to.shape) {
    return absl::StrCat("was ", Shape(from), ", is ", Shape(to));
  }
  if (from.frozen != to.frozen) return Turned(to.frozen, "frozen");
  if (from.expert != to.expert) return Turned(to.expert, "an expert's");
  const std::set<std::string> shared = SharersOf(from_plan, from);
  const std::set<std::string> wanted = SharersOf(to_plan, to);
  if (shared != wanted) {
    return absl::StrCat("shared storage as {", absl::StrJoin(shared, ", "),
                        "}, now as {", absl::StrJoin(wanted, ", "), "}");
  }
  if (to.frozen || to.tied_to >= 0) return "";
  const PlannedParam& owner = from_plan.params[from.owner];
  if (owner.transposed != to.transposed) {
    return Turned(to.transposed, "stored with the output last");
  }
  return StateDifference(owner, to);
}

absl::Status Refuse(const std::vector<std::string>& all) {
  const size_t named = std::min(all.size(), kMostNamed);
  std::string text = absl::StrJoin(all.begin(), all.begin() + named, "; ");
  if (named < all.size()) {
    absl::StrAppend(&text, "; and ", all.size() - named, " more");
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "state cannot move between plans that differ in ", all.size(),
      all.size() == 1 ? " parameter: " : " parameters: ", text,
      ". Give both plans the same ParamSpecs, rules and optimizer"));
}

}  // namespace

absl::StatusOr<std::vector<int>> MatchParams(const Plan& from, const Plan& to) {
  const Indices in_from = IndicesOf(from);
  const Indices in_to = IndicesOf(to);
  std::vector<std::string> wrong;
  for (const PlannedParam& param : from.params) {
    if (in_to.count(param.name) > 0) continue;
    wrong.push_back(absl::StrCat("'", param.name, "' ", Shape(param),
                                 " is missing where state goes to"));
  }
  std::vector<int> matches;
  for (const PlannedParam& param : to.params) {
    const auto at = in_from.find(param.name);
    if (at == in_from.end()) {
      wrong.push_back(absl::StrCat("'", param.name, "' ", Shape(param),
                                   " is missing where state comes from"));
      continue;
    }
    const PlannedParam& same = from.params[at->second];
    const std::string difference = Difference(from, same, to, param);
    if (!difference.empty()) {
      wrong.push_back(absl::StrCat("'", param.name, "' ", difference));
    }
    matches.push_back(same.owner);
  }
  if (!wrong.empty()) return Refuse(wrong);
  return matches;
}

}  // namespace zeromini
