#include "kernels/codec_args.h"

#include "zeromini/internal/check.h"

namespace zeromini {

void CheckCodec(const WeightCodecArgs& args) {
  switch (args.dtype) {
    case DType::kFloat32:
      ZEROMINI_CHECK(args.format == MasterFormat::kNone);
      return;
    case DType::kBFloat16:
      return;
    case DType::kFloat16:
      ZEROMINI_CHECK(args.format == MasterFormat::kNone ||
                     args.format == MasterFormat::kFloat32);
      return;
    case DType::kInt64:
    case DType::kByte:
      break;
  }
  ZEROMINI_CHECK(!"weights are fp32, bf16 or fp16");
}

void CheckCoded(const CodedUpdateArgs& args) {
  CheckCodec(args.weights);
  const StateCodecArgs& momentum = args.momentum;
  ZEROMINI_CHECK(args.weights.elements ==
                 momentum.rows * momentum.row_elements);
  if (args.rule == UpdateRule::kAdamMini) {
    ZEROMINI_CHECK(args.blocks > 0 ? momentum.rows % args.blocks == 0
                                   : momentum.rows == 0);
  }
  if (args.rule == UpdateRule::kAdamW) {
    ZEROMINI_CHECK(args.second_moment.rows == momentum.rows &&
                   args.second_moment.row_elements == momentum.row_elements &&
                   args.second_moment.format == momentum.format);
  }
}

}  // namespace zeromini
