// Name tables: what a parameter's name says of it, by model family.

#ifndef ZEROMINI_SHARD_NAME_TABLES_H_
#define ZEROMINI_SHARD_NAME_TABLES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "zeromini/plan.h"

namespace zeromini {

// How the output rows of a named tensor are ordered.
enum class RowOrder {
  kPlain,           // Rows of one role.
  kThirds,          // All Q rows, then all K rows, then all V rows.
  kKvGroups,        // For each kv head: its Q heads, its K head, its V head.
  kKvGroupsLikely,  // So, but another family stores kThirds under this name.
  kMlaKeyValue,     // For each head: K rows, then V rows, of unknown numbers.
};

// Which dimension is the model's hidden size, so that a shape tells whether it
// is stored [out, in].
enum class HiddenSide { kUnknown, kInput, kOutput };

// The table of filters: dimension 0 is the output, whatever follows.
inline constexpr char kConvolution[] = "convolution";

struct NameClass {
  const char* table = "";
  Role role = Role::kOther;
  RowOrder order = RowOrder::kPlain;
  HiddenSide hidden = HiddenSide::kUnknown;
  // llm.c: these tensors may have one more dimension, that of the layers.
  bool stackable = false;
  int natural_dims = 2;  // Without that dimension.

  bool known() const { return *table != '\0'; }
};

// Lower-cased dot-separated components, without a last "weight" and without
// integers at the end ("qkvw.3").
std::vector<std::string> NameComponents(absl::string_view name);

// Matches whole components at the end of the name, norms and biases first, so
// that "linear_fc1.layer_norm_weight" is a norm. `dims` is the number of
// dimensions. Not known() if nothing matches.
NameClass ClassifyName(absl::string_view name, int dims);

// The part of a name before its first integer component, and that integer; -1
// if there is none. A number at the very end has no prefix: "qkvw.3".
struct NumberedName {
  std::string prefix;
  int number = -1;
};
NumberedName FindLayerNumber(absl::string_view name);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_NAME_TABLES_H_
