#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/block_rules.h"
#include "shard/name_tables.h"
#include "shard/orientation.h"
#include "shard/planner.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Numbers the layers of several stacks (encoder, decoder) one after another.
class LayerNumbering {
 public:
  int LayerOf(const ParamSpec& spec) {
    if (spec.layer >= 0) {
      next_ = std::max(next_, spec.layer + 1);
      return spec.layer;
    }
    const NumberedName found = FindLayerNumber(spec.name);
    if (found.number < 0) return -1;
    const auto [at, inserted] = first_.emplace(found.prefix, next_);
    const int layer = at->second + found.number;
    next_ = std::max(next_, layer + 1);
    return layer;
  }

 private:
  std::map<std::string, int> first_;
  int next_ = 0;
};

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

// The parameter that owns the storage, through a chain of ties.
absl::StatusOr<int> OwnerOf(const ParamSpec& spec,
                            absl::Span<const ParamSpec> specs,
                            const std::map<std::string, int>& index_of,
                            const std::vector<PlannedParam>& resolved) {
  const auto at = index_of.find(spec.tied_to);
  if (at == index_of.end()) {
    return Refuse(spec, absl::StrCat("tied_to \"", spec.tied_to,
                                     "\" is no earlier parameter"));
  }
  if (specs[at->second].shape != spec.shape) {
    return Refuse(spec, absl::StrCat("tied_to ", Describe(specs[at->second]),
                                     ", which has another shape"));
  }
  if (specs[at->second].dtype != spec.dtype) {
    return Refuse(spec, absl::StrCat("tied_to ", Describe(specs[at->second]),
                                     ", which has another dtype"));
  }
  if (specs[at->second].frozen != spec.frozen) {
    return Refuse(
        spec,
        absl::StrCat("tied_to ", Describe(specs[at->second]), ", but ",
                     spec.frozen ? "only this one is" : "only that one is",
                     " frozen; they are one tensor, so both are or none"));
  }
  if (specs[at->second].expert != spec.expert) {
    return Refuse(spec, absl::StrCat("tied_to ", Describe(specs[at->second]),
                                     ", but only one of them is an expert's"));
  }
  const int tie = resolved[at->second].tied_to;
  return tie >= 0 ? tie : at->second;
}

PlannedParam TiedTo(const PlannedParam& owner, int index,
                    const ParamSpec& spec) {
  PlannedParam param = owner;
  param.name = spec.name;
  param.chosen_by = "tied";
  param.decays = false;
  param.frozen = spec.frozen;
  param.tied_to = index;
  param.hyper_group = std::max(spec.hyper_group, 0);
  param.blocks_total = 0;
  return param;
}

int LayerSetOf(const ParamSpec& spec, int layer) {
  if (spec.layer_set != kLayerSetOfLayer) return spec.layer_set;
  return layer >= 0 ? layer : kNoLayerSet;
}

}  // namespace

absl::StatusOr<std::vector<PlannedParam>> ResolveParams(
    absl::Span<const ParamSpec> specs, const PlanOptions& options,
    std::vector<std::string>* warnings) {
  std::vector<PlannedParam> params;
  params.reserve(specs.size());
  std::map<std::string, int> index_of;
  LayerNumbering layers;
  for (size_t i = 0; i < specs.size(); ++i) {
    const ParamSpec& spec = specs[i];
    if (spec.name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter ", i, " has an empty name"));
    }
    if (spec.layer_set < kNoLayerSet) {
      return Refuse(spec, absl::StrCat("layer_set is ", spec.layer_set,
                                       ", but must be a number of at least 0, "
                                       "kLayerSetOfLayer (",
                                       kLayerSetOfLayer, ") or kNoLayerSet (",
                                       kNoLayerSet, ")"));
    }
    PlannedParam param;
    if (spec.tied_to.empty()) {
      ZEROMINI_ASSIGN_OR_RETURN(param, ResolveParam(spec, options, warnings));
    } else {
      ZEROMINI_ASSIGN_OR_RETURN(const int owner,
                                OwnerOf(spec, specs, index_of, params));
      param = TiedTo(params[owner], owner, spec);
    }
    if (!index_of.emplace(spec.name, static_cast<int>(i)).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter ", i, " repeats the name \"", spec.name, "\""));
    }
    param.layer = layers.LayerOf(spec);
    param.layer_set = LayerSetOf(spec, param.layer);
    params.push_back(std::move(param));
  }
  if (options.naming == Naming::kZeromini) WarnOfSquares(params, warnings);
  return params;
}

}  // namespace zeromini
