#include <cmath>
#include <limits>

#include "kernels/cpu/level.h"

namespace zeromini {
namespace {

// std::pow picks its code by processor, so its last bit may differ.
double IntegerPower(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

}  // namespace

UpdateFactors::UpdateFactors(const StepScalars& scalars)
    : decay(1 - scalars.learning_rate * scalars.weight_decay),
      momentum_weight(1 - scalars.beta1),
      beta2(scalars.beta2),
      square_weight(1 - scalars.beta2),
      scale(scalars.gradient_scale),
      step(scalars.learning_rate /
           (1 - IntegerPower(scalars.beta1, scalars.step))),
      root_correction(1 /
                      std::sqrt(1 - IntegerPower(scalars.beta2, scalars.step))),
      epsilon(scalars.epsilon) {}

void UpdateFactors::UpdateMoment(double sum, int64_t elements,
                                 float* moment) const {
  constexpr double kLargest = std::numeric_limits<float>::max();
  const double moved = Moved(*moment, sum, elements);
  *moment = static_cast<float>(moved > kLargest ? kLargest : moved);
}

double UpdateFactors::Moved(float moment, double sum, int64_t elements) const {
  const double mean = sum * (scale * scale) / static_cast<double>(elements);
  return beta2 * moment + square_weight * mean;
}

void UpdateFactors::UpdateBlock(double block_sum, int64_t block_elements,
                                float* second_moment, float* block_step) const {
  *second_moment =
      static_cast<float>(Moved(*second_moment, block_sum, block_elements));
  const double root = std::sqrt(static_cast<double>(*second_moment));
  *block_step = static_cast<float>(step / (root * root_correction + epsilon));
}

}  // namespace zeromini
