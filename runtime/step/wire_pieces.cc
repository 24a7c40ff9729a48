#include "runtime/step/wire_pieces.h"

namespace zeromini {

std::vector<WirePiece> WirePieces(const Plan& plan, int index, int param,
                                  bool full) {
  const PlannedParam& planned = plan.params[param];
  const BucketPlan& bucket = plan.buckets[index];
  const WireLayout wire = full ? bucket.full_wire() : bucket.wire();
  std::vector<WirePiece> pieces;
  for (size_t rank = 0; rank < bucket.runs.size(); ++rank) {
    for (const Run& run : bucket.runs[rank]) {
      if (run.param != param) continue;
      const WirePiece piece = {
          static_cast<int64_t>(rank) * wire.segment + wire.OffsetOf(run),
          wire.ElementsOf(planned, run),
          {run.first_row, run.rows}};
      if (!pieces.empty()) {
        WirePiece& last = pieces.back();
        const bool joins = last.rows.first + last.rows.count == run.first_row &&
                           last.offset + last.elements == piece.offset;
        if (joins) {
          last.rows.count += run.rows;
          last.elements += piece.elements;
          continue;
        }
      }
      pieces.push_back(piece);
    }
  }
  return pieces;
}

}  // namespace zeromini
