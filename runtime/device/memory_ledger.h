// MemoryLedger: every byte the runtime holds, by purpose, as it is allocated.

#ifndef ZEROMINI_RUNTIME_DEVICE_MEMORY_LEDGER_H_
#define ZEROMINI_RUNTIME_DEVICE_MEMORY_LEDGER_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "zeromini/memory_report.h"

namespace zeromini {

enum class MemoryKind {
  kWeights,
  kGathered,
  kGradients,
  kMomentum,
  kSecondMoment,
  kMaster,
  kMethodState,
  kStatistics,
  kBuckets,
  kTables,
};

// Thread-safe. Shared by a device and its buffers, which may outlive it.
class MemoryLedger {
 public:
  void Add(MemoryKind kind, int64_t bytes);  // Negative when freed.
  MemoryReport Report() const;

 private:
  mutable std::mutex mutex_;
  MemoryReport report_;
};

// Zero-initialised device memory that counts itself. Null if `bytes` is 0.
using Buffer = std::shared_ptr<void>;

inline float* Floats(const Buffer& buffer) {
  return static_cast<float*>(buffer.get());
}
inline double* Doubles(const Buffer& buffer) {
  return static_cast<double*>(buffer.get());
}

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_MEMORY_LEDGER_H_
