// The reference table's factored second moments.

#ifndef ZEROMINI_KERNELS_REFERENCE_REFERENCE_FACTORED_H_
#define ZEROMINI_KERNELS_REFERENCE_REFERENCE_FACTORED_H_

#include "zeromini/kernels.h"

namespace zeromini {

void ReferenceColumnMoments(const ColumnArgs& args);
void ReferenceFactoredStep(const FactoredArgs& args);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_REFERENCE_REFERENCE_FACTORED_H_
