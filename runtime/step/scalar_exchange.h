// ScalarExchange: everything small that ranks must agree on in a step,
// in one integer all-reduce, so that the answer does not depend on the number
// of ranks or on who owned what.

#ifndef ZEROMINI_RUNTIME_STEP_SCALAR_EXCHANGE_H_
#define ZEROMINI_RUNTIME_STEP_SCALAR_EXCHANGE_H_

#include <cstdint>
#include <vector>

#include "kernels/exact_sum.h"

namespace zeromini {

// Layout, in int64: limbs of the norm; agreement word; a word per parameter
// (ranks that gave a gradient, and 2^32 times the ranks that own a part of it
// that is not finite); per split block its limbs and a word (ranks whose part
// is infinite, and 2^32 times those whose part is NaN). All are sums over
// ranks.
class ScalarExchange {
 public:
  ScalarExchange(int params, int splits);

  void Clear();
  void AddNorm(const ExactSum& norm);
  // `not_finite`: the sum of the rows that are not; 0 if all are.
  void AddSplit(int split, const ExactSum& partial, double not_finite = 0);
  void SetPresent(int param);
  void SetNotFinite(int param);
  void SetAgreement(uint64_t word);

  int64_t* data() { return words_.data(); }
  int64_t size() const { return static_cast<int64_t>(words_.size()); }

  // After the all-reduce.
  double SumOfSquares() const;
  // As BlockSum() of all rows: NaN or infinite if a part of it is.
  double SplitSum(int split) const;
  int RanksPresent(int param) const;
  int RanksNotFinite(int param) const;
  // True if all `ranks` set the word that this rank did.
  bool Agreed(uint64_t word, int ranks) const;

 private:
  int64_t ParamAt(int param) const;
  int64_t SplitAt(int split) const;

  int params_;
  std::vector<int64_t> words_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_SCALAR_EXCHANGE_H_
