#include "tools/bench_mpi.h"

#include <mpi.h>

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

absl::Status FromMpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::InternalError(
      absl::StrCat("mpi: ", what, ": ", std::string(text, length)));
}

absl::Status CheckCount(int64_t count) {
  if (count <= std::numeric_limits<int>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "MPI counts in int: ", count, " elements are too many for one call"));
}

class World : public RawMpi {
 public:
  ~World() override {
    for (MPI_Comm* comm : {&world_, &host_}) {
      if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
    }
  }

  absl::Status Init() {
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "MPI_Comm_dup"));
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN),
                "MPI_Comm_set_errhandler"));
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, 0,
                                    MPI_INFO_NULL, &host_),
                "MPI_Comm_split_type"));
    int local_rank = 0;
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Comm_rank(host_, &local_rank), "MPI_Comm_rank"));
    const int first = local_rank == 0 ? 1 : 0;
    return FromMpi(MPI_Allreduce(&first, &hosts_, 1, MPI_INT, MPI_SUM, world_),
                   "MPI_Allreduce");
  }

  absl::Status ReduceScatter(const float* in, float* out,
                             int64_t count) override {
    ZEROMINI_RETURN_IF_ERROR(CheckCount(count));
    return FromMpi(MPI_Reduce_scatter_block(in, out, static_cast<int>(count),
                                            MPI_FLOAT, MPI_SUM, world_),
                   "MPI_Reduce_scatter_block");
  }

  absl::Status AllGather(const float* in, float* out, int64_t count) override {
    ZEROMINI_RETURN_IF_ERROR(CheckCount(count));
    const int n = static_cast<int>(count);
    return FromMpi(MPI_Allgather(in, n, MPI_FLOAT, out, n, MPI_FLOAT, world_),
                   "MPI_Allgather");
  }

  absl::Status AllReduce(float* data, int64_t count) override {
    ZEROMINI_RETURN_IF_ERROR(CheckCount(count));
    return FromMpi(MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(count),
                                 MPI_FLOAT, MPI_SUM, world_),
                   "MPI_Allreduce");
  }

  int hosts() const override { return hosts_; }

  absl::StatusOr<int64_t> LargestHostSum(int64_t mine) override {
    int64_t sum = 0;
    int64_t largest = 0;
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Allreduce(&mine, &sum, 1, MPI_INT64_T, MPI_SUM, host_),
                "MPI_Allreduce"));
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Allreduce(&sum, &largest, 1, MPI_INT64_T, MPI_MAX, world_),
                "MPI_Allreduce"));
    return largest;
  }

 private:
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm host_ = MPI_COMM_NULL;
  int hosts_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RawMpi>> RawMpi::Create() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized == 0) {
    return absl::FailedPreconditionError("mpi: MPI_Init has not been called");
  }
  auto world = std::make_unique<World>();
  ZEROMINI_RETURN_IF_ERROR(world->Init());
  return world;
}

}  // namespace zeromini::tools
