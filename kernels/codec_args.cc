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

}  // namespace zeromini
