#include <cmath>

#include "kernels/exact_sum.h"
#include "kernels/host_columns.h"
#include "kernels/host_table.h"
#include "kernels/reference/reference_codecs.h"
#include "kernels/reference/reference_factored.h"
#include "zeromini/internal/half.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

double SumOfSquares(const float* in, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(in[i]) * in[i];
  return sum;
}

void RowSums(const RowSumsArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    args.row_sums[r] =
        SumOfSquares(args.gradient + r * args.row_elements, args.row_elements);
  }
}

void UpdateBlock(const AdamMiniArgs& args, int64_t block, double block_sum) {
  const StepScalars& s = *args.scalars;
  const double t = static_cast<double>(s.step);
  const double mean = block_sum * s.gradient_scale * s.gradient_scale /
                      static_cast<double>(args.block_elements);
  const double v = s.beta2 * args.second_moment[block] + (1 - s.beta2) * mean;
  args.second_moment[block] = static_cast<float>(v);
  const double h =
      std::sqrt(v) / std::sqrt(1 - std::pow(s.beta2, t)) + s.epsilon;
  const double step = s.learning_rate / (1 - std::pow(s.beta1, t)) / h;
  const int64_t n = args.block_rows * args.row_elements;
  for (int64_t i = block * n; i < (block + 1) * n; ++i) {
    const double m = args.momentum[i];
    const double g = s.gradient_scale * args.gradient[i];
    const double moved = m + (1 - s.beta1) * (g - m);
    const double decayed =
        args.parameter[i] * (1 - s.learning_rate * s.weight_decay);
    args.momentum[i] = static_cast<float>(moved);
    args.parameter[i] = static_cast<float>(decayed - step * moved);
  }
}

void AdamMiniStep(const AdamMiniArgs& args) {
  for (int64_t b = 0; b < args.blocks; ++b) {
    UpdateBlock(args, b, args.block_sums[b]);
  }
}

void AdamMiniFused(const AdamMiniArgs& args) {
  const int64_t n = args.block_rows * args.row_elements;
  for (int64_t b = 0; b < args.blocks; ++b) {
    UpdateBlock(args, b, SumOfSquares(args.gradient + b * n, n));
  }
}

void AdamW(const AdamWArgs& args) {
  const StepScalars& s = *args.scalars;
  const double t = static_cast<double>(s.step);
  const double correction1 = 1 - std::pow(s.beta1, t);
  const double correction2 = 1 - std::pow(s.beta2, t);
  for (int64_t i = 0; i < args.elements; ++i) {
    const double g = s.gradient_scale * args.gradient[i];
    double p = args.parameter[i];
    double m = args.momentum[i];
    double v = args.second_moment[i];
    p *= 1 - s.learning_rate * s.weight_decay;
    m += (1 - s.beta1) * (g - m);
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    p -= s.learning_rate / correction1 * m /
         (std::sqrt(v) / std::sqrt(correction2) + s.epsilon);
    args.parameter[i] = static_cast<float>(p);
    args.momentum[i] = static_cast<float>(m);
    args.second_moment[i] = static_cast<float>(v);
  }
}

void Sgd(const SgdArgs& args) {
  const StepScalars& s = *args.scalars;
  for (int64_t i = 0; i < args.elements; ++i) {
    const double decayed =
        args.parameter[i] * (1 - s.learning_rate * s.weight_decay);
    const double m =
        s.beta1 * args.momentum[i] + s.gradient_scale * args.gradient[i];
    args.momentum[i] = static_cast<float>(m);
    args.parameter[i] = static_cast<float>(decayed - s.learning_rate * m);
  }
}

void Clamp(const ClampArgs& args) {
  for (int64_t i = 0; i < args.elements; ++i) {
    float& value = args.values[i];
    if (std::isfinite(value) && std::abs(value) > args.limit) {
      value = std::copysign(args.limit, value);
    }
  }
}

void CopyElement(const CopyArgs& args, int64_t from, int64_t to) {
  if (args.in_dtype == DType::kFloat32) {
    static_cast<float*>(args.out)[to] =
        static_cast<const float*>(args.in)[from];
    return;
  }
  const uint16_t bits = static_cast<const uint16_t*>(args.in)[from];
  if (args.out_dtype == args.in_dtype) {
    static_cast<uint16_t*>(args.out)[to] = bits;
  } else {
    static_cast<float*>(args.out)[to] = args.in_dtype == DType::kBFloat16
                                            ? FromBFloat16(bits)
                                            : FromFloat16(bits);
  }
}

void Copy(const CopyArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t c = 0; c < args.columns; ++c) {
      CopyElement(
          args, r * args.in_stride + c,
          args.transpose ? c * args.out_stride + r : r * args.out_stride + c);
    }
  }
}

void Accumulate(const AccumulateArgs& args) {
  for (int64_t i = 0; i < args.elements; ++i) {
    args.sum[i] =
        static_cast<float>(static_cast<double>(args.sum[i]) + args.addend[i]);
  }
}

// `not_finite`: the sum of the span's rows that are not.
void AddWords(const SumSpan& span, const StatisticsArgs& args, ExactSum& finite,
              double not_finite) {
  const bool bad = not_finite != 0;
  if (bad) args.words[span.param_word] += kNotFiniteUnit;
  if (!args.counts || span.split_words < 0) return;
  int64_t* split = args.words + span.split_words;
  finite.AddTo(split);
  if (bad)
    split[kSplitNotFiniteWord] += std::isnan(not_finite) ? kNotFiniteUnit : 1;
}

// Adds the finite rows to `norm`.
void AddSpan(const SumSpan& span, const StatisticsArgs& args, ExactSum& norm) {
  const bool has_blocks = span.rows_per_block > 0 && span.split_words < 0;
  BlockSummer block(span.rows_per_block);
  ExactSum finite;
  double not_finite = 0;
  for (int64_t r = 0; r < span.rows; ++r) {
    const double sum =
        SumOfSquares(args.gradient + span.first_element + r * span.row_elements,
                     span.row_elements);
    if (std::isfinite(sum)) {
      finite.Add(sum);
    } else {
      not_finite += sum;
    }
    block.Add(sum);
    if (has_blocks && (r + 1) % span.rows_per_block == 0) {
      args.block_sums[span.sums_at + r / span.rows_per_block] = block.Take();
    }
  }
  norm.AddLimbs(finite.limbs().data());
  if (TakesColumns(args, span)) {
    AddColumns(ColumnRows(args, span, 0, span.rows), 0);
  }
  AddWords(span, args, finite, not_finite);
}

void Statistics(const StatisticsArgs& args) {
  ExactSum norm;
  for (int64_t s = 0; s < args.count; ++s) AddSpan(args.spans[s], args, norm);
  if (args.norm && args.counts) norm.AddTo(args.words);
}

void CodedUpdate(const CodedUpdateArgs& args) {
  ReferenceCodedUpdate(args, {AdamMiniStep, AdamW, Sgd, ReferenceFactoredStep});
}

constexpr HostKernels kKernels = {
    RowSums,
    AdamMiniStep,
    AdamMiniFused,
    AdamW,
    Copy,
    Accumulate,
    Sgd,
    Clamp,
    ReferenceUnpackWeights,
    ReferencePackWeights,
    ReferenceUnpackState,
    ReferencePackState,
    Statistics,
    ReferenceColumnMoments,
    ReferenceFactoredStep,
    CodedUpdate,
};

constexpr KernelTable kTable = HostTable<kKernels>::Named("reference");

}  // namespace

const KernelTable& ReferenceKernels() { return kTable; }

}  // namespace zeromini
