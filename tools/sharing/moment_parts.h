// MomentPart: what of a model's tensors is measured, and what a form of the
// second moment would cost there.

#ifndef ZEROMINI_TOOLS_SHARING_MOMENT_PARTS_H_
#define ZEROMINI_TOOLS_SHARING_MOMENT_PARTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/sharing/moment_snr.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// A tensor, or the query, key or value rows of a fused one.
struct MomentPart {
  int param = 0;     // Index in the plan.
  std::string name;  // Of the tensor.
  std::string part;  // "query", "key", "value" of a fused tensor; else empty.
  std::string role;  // RoleName().
  // What is suggested for together: query, key, value, projection, gate, up,
  // down, mlp, embedding, position, output, norm, bias, other.
  std::string kind;
  std::vector<int64_t> shape;  // Of the tensor, as stored.
  int64_t first_row = 0;  // Outputs of the tensor that these rows begin at.
  int64_t rows = 0;
  int64_t columns = 0;
  bool transposed = false;    // Stored [in, out].
  int64_t rows_per_head = 0;  // 0: it has no heads.
  // Adam-mini's official partition: second moments, and the form, "element"
  // where it shares nothing.
  int64_t official_scalars = 0;
  std::string official_form;

  int64_t elements() const { return rows * columns; }
};

// The kinds, in the order in which they are shown.
const std::vector<std::string>& MomentKinds();

// Of each parameter of `plan`, AdamW's, that has state of its own. Fused
// tensors are parted where their query, key and value rows each lie together;
// where they lie head by head the tensor is one part, without heads. The errors
// of MakePlan() for Adam-mini, whose blocks tell.
absl::StatusOr<std::vector<MomentPart>> PartsOf(const Plan& plan);

// `second_moment`: of the whole tensor, in its own shape.
MomentView ViewOf(const MomentPart& part, const float* second_moment);

// Numbers that the form keeps instead of one per element.
int64_t ScalarsOf(const MomentPart& part, SharedForm form);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SHARING_MOMENT_PARTS_H_
