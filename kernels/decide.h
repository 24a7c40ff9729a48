// A step's decision on the host. decision_formulas.h says how it is made.

#ifndef ZEROMINI_KERNELS_DECIDE_H_
#define ZEROMINI_KERNELS_DECIDE_H_

#include "zeromini/kernels.h"

namespace zeromini {

void Decide(const DecideArgs& args);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_DECIDE_H_
