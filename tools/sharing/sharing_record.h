// SharingRecord: what was measured of the second moments over a run.

#ifndef ZEROMINI_TOOLS_SHARING_SHARING_RECORD_H_
#define ZEROMINI_TOOLS_SHARING_SHARING_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/report/table.h"
#include "tools/sharing/moment_parts.h"
#include "tools/sharing/moment_snr.h"

namespace zeromini::tools {

struct PartSeries {
  MomentPart part;
  std::vector<MomentSnr> snr;  // One a measured step.
};

struct SharingRecord {
  std::vector<int64_t> steps;  // Measured after these, ascending.
  std::vector<PartSeries> parts;
  double beta2 = 0;

  // Of what was measured: the first that lies in the second half of the run.
  size_t SecondHalf() const;
};

// Tensors of one kind together.
struct KindSnr {
  std::string kind;
  int64_t parts = 0;
  int64_t elements = 0;
  MomentSnr mean;  // Over parts and measured steps; NaN are left out.
};

// Over measurements [first, last), by index into `steps`. Kinds in the order of
// MomentKinds(), those that the model has.
std::vector<KindSnr> KindMeans(const SharingRecord& record, size_t first,
                               size_t last);

// Of one tensor, likewise.
MomentSnr PartMean(const PartSeries& series, size_t first, size_t last);

// One row a kind, of the second half of the run.
Table SharingTable(const SharingRecord& record);

// "0.61", "1.2e+05", "inf"; "-" for NaN.
std::string SnrText(double snr);

// A number; "inf" for infinity, which JSON does not have; null for NaN.
nlohmann::json SnrJson(double snr);

// "steps" and "tensors" as docs/formats/sharing.md says.
nlohmann::json ToJson(const SharingRecord& record);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SHARING_SHARING_RECORD_H_
