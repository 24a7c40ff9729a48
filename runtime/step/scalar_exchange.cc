#include "runtime/step/scalar_exchange.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "zeromini/internal/scalar_words.h"

namespace zeromini {
namespace {

constexpr int kLimbs = ExactSum::kLimbs;
constexpr int kAgreement = kLimbs;
constexpr int kFirstParam = kStepWords;
static_assert(kStepWords == kLimbs + 1);
static_assert(kSplitBlockWords == kLimbs + 1);
constexpr int64_t kNotFinite = int64_t{1} << 32;
constexpr int64_t kNan = kNotFinite;

}  // namespace

ScalarExchange::ScalarExchange(int params, int splits)
    : params_(params),
      words_(static_cast<size_t>(ScalarWords(params, splits)), 0) {}

int64_t ScalarExchange::ParamAt(int param) const { return kFirstParam + param; }

int64_t ScalarExchange::SplitAt(int split) const {
  return kFirstParam + params_ + int64_t{split} * kSplitBlockWords;
}

void ScalarExchange::Clear() {
  std::fill(words_.begin(), words_.end(), int64_t{0});
}

void ScalarExchange::AddNorm(const ExactSum& norm) {
  for (int i = 0; i < kLimbs; ++i) words_[i] += norm.limbs()[i];
}

void ScalarExchange::AddSplit(int split, const ExactSum& partial,
                              double not_finite) {
  for (int i = 0; i < kLimbs; ++i) {
    words_[SplitAt(split) + i] += partial.limbs()[i];
  }
  if (not_finite == 0) return;
  words_[SplitAt(split) + kLimbs] += std::isnan(not_finite) ? kNan : 1;
}

void ScalarExchange::SetPresent(int param) { words_[ParamAt(param)] += 1; }

void ScalarExchange::SetNotFinite(int param) {
  words_[ParamAt(param)] += kNotFinite;
}

void ScalarExchange::SetAgreement(uint64_t word) {
  words_[kAgreement] = static_cast<int64_t>(word);
}

double ScalarExchange::SumOfSquares() const {
  return ExactSum::Round(words_.data());
}

double ScalarExchange::SplitSum(int split) const {
  const int64_t* words = words_.data() + SplitAt(split);
  if (words[kLimbs] >= kNan) return std::numeric_limits<double>::quiet_NaN();
  if (words[kLimbs] > 0) return std::numeric_limits<double>::infinity();
  return ExactSum::Round(words);
}

int ScalarExchange::RanksPresent(int param) const {
  return static_cast<int>(words_[ParamAt(param)] % kNotFinite);
}

int ScalarExchange::RanksNotFinite(int param) const {
  return static_cast<int>(words_[ParamAt(param)] / kNotFinite);
}

bool ScalarExchange::Agreed(uint64_t word, int ranks) const {
  return static_cast<uint64_t>(words_[kAgreement]) ==
         word * static_cast<uint64_t>(ranks);
}

}  // namespace zeromini
