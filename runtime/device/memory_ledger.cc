#include "runtime/device/memory_ledger.h"

#include <algorithm>

namespace zeromini {
namespace {

int64_t& Field(MemoryReport& report, MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kWeights:
      return report.weights;
    case MemoryKind::kGathered:
      return report.gathered;
    case MemoryKind::kGradients:
      return report.gradients;
    case MemoryKind::kMomentum:
      return report.momentum;
    case MemoryKind::kSecondMoment:
      return report.second_moment;
    case MemoryKind::kMaster:
      return report.master;
    case MemoryKind::kMethodState:
      return report.method_state;
    case MemoryKind::kStatistics:
      return report.statistics;
    case MemoryKind::kBuckets:
      return report.buckets;
    case MemoryKind::kTables:
      break;
  }
  return report.tables;
}

}  // namespace

void MemoryLedger::Add(MemoryKind kind, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Field(report_, kind) += bytes;
  report_.peak = std::max(report_.peak, report_.total());
}

MemoryReport MemoryLedger::Report() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return report_;
}

}  // namespace zeromini
