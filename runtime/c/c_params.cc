// Parameters and hyper-parameter groups of c.h.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_convert.h"
#include "runtime/c/c_sized.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::c_api {
namespace {

static_assert(static_cast<int>(BlockRule::Kind::kFused) == ZEROMINI_RULE_FUSED);
static_assert(static_cast<int>(BlockRule::Kind::kColumns) ==
              ZEROMINI_RULE_COLUMNS);
static_assert(static_cast<int>(MomentForm::kColumns) == ZEROMINI_FORM_COLUMNS);
static_assert(static_cast<int>(Algorithm::kSgd) == ZEROMINI_SGD);
static_assert(kLayerSetOfLayer == ZEROMINI_LAYER_SET_OF_LAYER);
static_assert(kNoLayerSet == ZEROMINI_NO_LAYER_SET);
// C's has one more, before the first.
static_assert(static_cast<int>(BlockKind::kHead) + 1 == ZEROMINI_BLOCK_HEAD);
static_assert(static_cast<int>(BlockKind::kWhole) + 1 == ZEROMINI_BLOCK_WHOLE);

constexpr int kMostDimensions = 64;
constexpr int kMostLayers = 1 << 24;
constexpr int kMostParams = 1 << 24;

absl::Status Check(const zeromini_param& param, const std::string& where) {
  Fields fields(Sized<zeromini_param>::kName, where);
  fields.NotNull("name", param.name)
      .Range("dims", param.dims, 1, kMostDimensions)
      .Array("shape", param.shape, "dims", param.dims)
      .Flag("output_is_last", param.output_is_last)
      .DTypeOf("dtype", param.dtype, ZEROMINI_FLOAT16)
      .OneOf("rule", param.rule, ZEROMINI_RULE_COLUMNS)
      .Range("rows_per_head", param.rows_per_head, 0, kUnbounded)
      .Array("segments", param.segments, "num_segments", param.num_segments)
      .Range("layer", param.layer, -1, kMostLayers)
      .Range("layer_set", param.layer_set, kNoLayerSet, kUnbounded)
      .Range("hyper_group", param.hyper_group, -1, kUnbounded)
      .Flag("frozen", param.frozen)
      .Flag("expert", param.expert);
  if (!fields.status().ok()) return fields.status();
  for (int i = 0; i < param.num_segments; ++i) {
    const std::string segment = absl::StrCat("segments[", i, "].");
    fields
        .OneOf(absl::StrCat(segment, "kind").c_str(), param.segments[i].kind,
               ZEROMINI_BLOCK_WHOLE)
        .OneOf(absl::StrCat(segment, "form").c_str(), param.segments[i].form,
               ZEROMINI_FORM_COLUMNS);
  }
  return fields.status();
}

BlockSegment Convert(const zeromini_segment& segment) {
  BlockSegment result = {segment.rows, segment.rows_per_block};
  if (segment.kind != ZEROMINI_BLOCK_AUTO) {
    result.kind = static_cast<BlockKind>(segment.kind - 1);
  }
  result.form = static_cast<MomentForm>(segment.form);
  return result;
}

ParamSpec Convert(const zeromini_param& param) {
  ParamSpec spec;
  spec.name = param.name;
  spec.shape.assign(param.shape, param.shape + param.dims);
  spec.slices = param.slices;
  spec.output_is_last = param.output_is_last != 0;
  spec.padding_rows = param.padding_rows;
  spec.dtype = static_cast<DType>(param.dtype);
  spec.rule.kind = static_cast<BlockRule::Kind>(param.rule);
  spec.rule.rows_per_head = param.rows_per_head;
  for (int i = 0; i < param.num_segments; ++i) {
    spec.rule.segments.push_back(Convert(param.segments[i]));
  }
  spec.layer = param.layer;
  spec.layer_set = param.layer_set;
  spec.hyper_group = param.hyper_group;
  spec.frozen = param.frozen != 0;
  spec.tied_to = param.tied_to == nullptr ? "" : param.tied_to;
  spec.data = param.data;
  spec.expert = param.expert != 0;
  return spec;
}

std::vector<zeromini_segment> SegmentsOf(const BlockRule& rule) {
  std::vector<zeromini_segment> segments;
  for (const BlockSegment& segment : rule.segments) {
    const int kind = segment.kind ? static_cast<int>(*segment.kind) + 1 : 0;
    segments.push_back({segment.rows, segment.rows_per_block,
                        static_cast<zeromini_block_kind>(kind),
                        static_cast<zeromini_moment_form>(segment.form)});
  }
  return segments;
}

// What `spec` was made from, but for what points into it and `segments`.
zeromini_param InC(const ParamSpec& spec,
                   const std::vector<zeromini_segment>& segments) {
  zeromini_param param;
  zeromini_param_init(&param, sizeof(param));
  param.name = spec.name.c_str();
  param.shape = spec.shape.data();
  param.dims = static_cast<int>(spec.shape.size());
  param.output_is_last = spec.output_is_last ? 1 : 0;
  param.slices = spec.slices;
  param.padding_rows = spec.padding_rows;
  param.dtype = static_cast<zeromini_dtype>(spec.dtype);
  param.rule = static_cast<zeromini_rule_kind>(spec.rule.kind);
  param.rows_per_head = spec.rule.rows_per_head;
  param.segments = segments.empty() ? nullptr : segments.data();
  param.num_segments = static_cast<int>(segments.size());
  param.layer = spec.layer;
  param.layer_set = spec.layer_set;
  param.hyper_group = spec.hyper_group;
  param.frozen = spec.frozen ? 1 : 0;
  param.tied_to = spec.tied_to.empty() ? nullptr : spec.tied_to.c_str();
  param.data = spec.data;
  param.expert = spec.expert ? 1 : 0;
  return param;
}

absl::Status Check(const zeromini_hyper_group& hyper,
                   const std::string& where) {
  Fields fields(Sized<zeromini_hyper_group>::kName, where);
  fields.NotNull("name", hyper.name)
      .Flag("decay_norms_and_biases", hyper.decay_norms_and_biases)
      .Range("own_algorithm", hyper.own_algorithm, -1, ZEROMINI_SGD)
      .Array("patterns", hyper.patterns, "num_patterns", hyper.num_patterns);
  if (!fields.status().ok()) return fields.status();
  for (int i = 0; i < hyper.num_patterns; ++i) {
    fields.NotNull(absl::StrCat("patterns[", i, "]").c_str(),
                   hyper.patterns[i]);
  }
  return fields.status();
}

HyperGroup Convert(const zeromini_hyper_group& hyper) {
  HyperGroup group;
  group.name = hyper.name;
  group.learning_rate_scale = hyper.learning_rate_scale;
  group.weight_decay = hyper.weight_decay;
  group.beta1 = hyper.beta1;
  group.beta2 = hyper.beta2;
  group.epsilon = hyper.epsilon;
  group.decay_norms_and_biases = hyper.decay_norms_and_biases != 0;
  if (hyper.own_algorithm >= 0) {
    group.algorithm = static_cast<Algorithm>(hyper.own_algorithm);
  }
  group.patterns.assign(hyper.patterns, hyper.patterns + hyper.num_patterns);
  if (hyper.matches != nullptr) {
    group.matches = [matches = hyper.matches,
                     context = hyper.matches_context](const ParamSpec& spec) {
      const std::vector<zeromini_segment> segments = SegmentsOf(spec.rule);
      const zeromini_param param = InC(spec, segments);
      return matches(context, &param) != 0;
    };
  }
  return group;
}

}  // namespace

absl::StatusOr<HyperGroup> FromC(const zeromini_hyper_group* given,
                                 const std::string& where) {
  ZEROMINI_RETURN_IF_ERROR(CheckIn(where, given));
  const zeromini_hyper_group hyper =
      Complete(*given, zeromini_hyper_group_init);
  ZEROMINI_RETURN_IF_ERROR(Check(hyper, where));
  return Convert(hyper);
}

absl::StatusOr<std::vector<ParamSpec>> FromC(const zeromini_param* params,
                                             int num_params) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckRange("num_params", num_params, 1, kMostParams));
  ZEROMINI_RETURN_IF_ERROR(CheckNotNull("params", params));
  std::vector<ParamSpec> specs;
  for (int i = 0; i < num_params; ++i) {
    const std::string where = absl::StrCat("params[", i, "]");
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini_param* given,
                              Element(params, i, where));
    ZEROMINI_RETURN_IF_ERROR(CheckIn(where, given));
    const zeromini_param param = Complete(*given, zeromini_param_init);
    ZEROMINI_RETURN_IF_ERROR(Check(param, where));
    specs.push_back(Convert(param));
  }
  return specs;
}

}  // namespace zeromini::c_api
