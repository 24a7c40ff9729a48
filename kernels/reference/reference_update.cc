// The coded update as its parts: what the one pass of other tables means.

#include <vector>

#include "kernels/codec_args.h"
#include "kernels/reference/reference_codecs.h"

namespace zeromini {
namespace {

struct Unpacked {
  explicit Unpacked(int64_t elements)
      : weights(static_cast<size_t>(elements)),
        momentum(weights),
        second_moment(weights) {}

  std::vector<float> weights;
  std::vector<float> momentum;
  std::vector<float> second_moment;
};

void Update(const CodedUpdateArgs& args, const ReferenceRules& rules,
            Unpacked& values) {
  const int64_t elements = args.weights.elements;
  const int64_t columns = args.momentum.row_elements;
  switch (args.rule) {
    case UpdateRule::kAdamMini:
      if (args.blocks == 0) return;
      return rules.adam_mini_step({values.weights.data(), args.gradient,
                                   values.momentum.data(), args.block_moments,
                                   args.block_sums, args.blocks,
                                   args.momentum.rows / args.blocks, columns,
                                   args.block_elements, args.scalars});
    case UpdateRule::kAdamW:
      return rules.adamw({values.weights.data(), args.gradient,
                          values.momentum.data(), values.second_moment.data(),
                          elements, args.scalars});
    case UpdateRule::kSgd:
      return rules.sgd({values.weights.data(), args.gradient,
                        values.momentum.data(), elements, args.scalars});
    case UpdateRule::kFactored:
      return rules.factored_step({values.weights.data(), args.gradient,
                                  values.momentum.data(), args.row_moments,
                                  args.row_sums, args.column_factors,
                                  args.momentum.rows, columns, args.scalars});
  }
}

}  // namespace

void ReferenceCodedUpdate(const CodedUpdateArgs& args,
                          const ReferenceRules& rules) {
  CheckCoded(args);
  Unpacked values(args.weights.elements);
  WeightCodecArgs weights = args.weights;
  StateCodecArgs momentum = args.momentum;
  StateCodecArgs second_moment = args.second_moment;
  weights.unpacked = values.weights.data();
  momentum.unpacked = values.momentum.data();
  second_moment.unpacked = values.second_moment.data();
  const bool moments = args.rule == UpdateRule::kAdamW;
  ReferenceUnpackWeights(weights);
  ReferenceUnpackState(momentum);
  if (moments) ReferenceUnpackState(second_moment);
  Update(args, rules, values);
  ReferencePackWeights(weights);
  ReferencePackState(momentum);
  if (moments) ReferencePackState(second_moment);
}

}  // namespace zeromini
