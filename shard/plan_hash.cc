#include <cstring>

#include "shard/planner.h"

namespace zeromini {
namespace {

// FNV-1a over 64-bit words.
class Hasher {
 public:
  void AddWord(uint64_t word) { hash_ = (hash_ ^ word) * 0x100000001b3; }
  template <typename... Words>
  void AddAll(Words... words) {
    (AddWord(static_cast<uint64_t>(words)), ...);
  }
  void Add(const std::string& text) {
    AddAll(text.size());
    for (char c : text) AddAll(static_cast<unsigned char>(c));
  }
  void Add(double number) {
    uint64_t bits = 0;
    std::memcpy(&bits, &number, sizeof(bits));
    AddWord(bits);
  }
  void Add(const std::vector<BlockSegment>& segments) {
    AddAll(segments.size());
    for (const BlockSegment& s : segments) {
      AddAll(s.rows, s.rows_per_block, s.kind.has_value(),
             s.kind.value_or(BlockKind::kWhole), s.form);
    }
  }
  void Add(const std::vector<UnitSegment>& segments) {
    AddAll(segments.size());
    for (const UnitSegment& s : segments) {
      AddAll(s.rows, s.rows_per_unit, s.wire_elements, s.state_elements);
    }
  }
  uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

void AddOptions(const PlanOptions& options, Hasher& hasher) {
  hasher.AddAll(options.algorithm, options.ranks, options.replicas,
                options.stage, options.model.hidden, options.model.heads,
                options.model.kv_heads, options.model.head_dim, options.naming,
                options.value_blocks, options.second_moment, options.blocks,
                options.memory, options.bucketing, options.bucket_bytes,
                options.buffer_budget_bytes, options.collective_cost_bytes);
  hasher.Add(options.copy_cost);
}

void AddParam(const PlannedParam& param, Hasher& hasher) {
  hasher.Add(param.name);
  hasher.AddAll(param.shape.size());
  for (int64_t size : param.shape) hasher.AddAll(size);
  hasher.AddAll(param.rows, param.row_elements, param.dtype, param.algorithm,
                param.transposed, param.element_state);
  hasher.Add(param.blocks);
  hasher.Add(param.units);
  hasher.AddAll(param.padding_rows, param.role, param.decays, param.frozen,
                param.expert, param.tied_to, param.hyper_group, param.layer,
                param.layer_set, param.region, param.region_offset,
                param.blocks_total);
  hasher.Add(param.chosen_by);
}

void AddBucket(const BucketPlan& bucket, Hasher& hasher) {
  hasher.AddAll(bucket.parts.size());
  for (const Part& part : bucket.parts) {
    hasher.AddAll(part.param, part.first_row, part.rows);
  }
  hasher.AddAll(bucket.region, bucket.region_offset, bucket.elements,
                bucket.wire_elements, bucket.segment, bucket.wire_segment);
  for (const std::vector<Run>& runs : bucket.runs) {
    hasher.AddAll(runs.size());
    for (const Run& run : runs) {
      hasher.AddAll(run.param, run.first_row, run.rows, run.offset,
                    run.wire_offset, run.wire_elements, run.state_elements);
    }
  }
}

}  // namespace

uint64_t HashOf(const Plan& plan) {
  Hasher hasher;
  AddOptions(plan.options, hasher);
  hasher.AddAll(plan.params.size(), plan.buckets.size(), plan.regions.size(),
                plan.split_blocks.size(), plan.warnings.size());
  for (const PlannedParam& param : plan.params) AddParam(param, hasher);
  for (const BucketPlan& bucket : plan.buckets) AddBucket(bucket, hasher);
  for (const RegionPlan& region : plan.regions) {
    hasher.AddAll(region.dtype, region.expert, region.layer_set,
                  region.elements);
  }
  for (const SplitBlock& split : plan.split_blocks) {
    hasher.AddAll(split.param, split.block);
  }
  for (const std::string& warning : plan.warnings) hasher.Add(warning);
  return hasher.hash();
}

}  // namespace zeromini
