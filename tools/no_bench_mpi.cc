#include "tools/bench_mpi.h"

namespace zeromini::tools {

absl::StatusOr<std::unique_ptr<RawMpi>> RawMpi::Create() {
  return absl::UnimplementedError("not built: configured without MPI");
}

}  // namespace zeromini::tools
