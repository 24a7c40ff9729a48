#include "comm/mpi/host_window.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int64_t kAlignment = 4096;

constexpr int64_t kSlotBytes =
    (int64_t{sizeof(HostSlot)} + kAlignment - 1) / kAlignment * kAlignment;

char* Aligned(void* base) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(base);
  return reinterpret_cast<char*>((address + kAlignment - 1) / kAlignment *
                                 kAlignment);
}

absl::Status Allocate(MPI_Comm host, int64_t bytes, MPI_Win* window,
                      void** base) {
  const int code =
      MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, host, base, window);
  if (code == MPI_SUCCESS) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      FromMpi(code, "MPI_Win_allocate_shared").message(), " (", bytes,
      " bytes a rank; is /dev/shm large enough?). GroupOptions::hosts with a "
      "number of its own for each rank does without shared memory"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostWindow>> HostWindow::Create(MPI_Comm host,
                                                               int64_t bytes) {
  auto result = std::unique_ptr<HostWindow>(new HostWindow());
  int size = 0;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_rank(host, &result->index_), "MPI_Comm_rank"));
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_size(host, &size), "MPI_Comm_size"));
  const int64_t total = kAlignment + kSlotBytes + bytes;
  std::vector<void*> bases(size, nullptr);
  if (size == 1) {
    bases[0] = result->alone_ = std::malloc(static_cast<size_t>(total));
    if (bases[0] == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("mpi: no room for ", total, " bytes"));
    }
  } else {
    ZEROMINI_RETURN_IF_ERROR(
        Allocate(host, total, &result->window_, &bases[result->index_]));
    for (int i = 0; i < size; ++i) {
      MPI_Aint length = 0;
      int unit = 0;
      ZEROMINI_RETURN_IF_ERROR(FromMpi(
          MPI_Win_shared_query(result->window_, i, &length, &unit, &bases[i]),
          "MPI_Win_shared_query"));
    }
  }
  for (int i = 0; i < size; ++i) {
    // The mappings differ by rank, but by whole pages.
    char* aligned = Aligned(bases[i]);
    result->slots_.push_back(reinterpret_cast<HostSlot*>(aligned));
    result->payloads_.push_back(aligned + kSlotBytes);
  }
  new (result->slots_[result->index_]) HostSlot();
  // Nobody may look at a slot that is not there yet.
  if (size > 1) {
    ZEROMINI_RETURN_IF_ERROR(FromMpi(MPI_Barrier(host), "MPI_Barrier"));
  }
  return result;
}

absl::Status HostWindow::Free() {
  std::free(alone_);
  alone_ = nullptr;
  if (window_ == MPI_WIN_NULL) return absl::OkStatus();
  return FromMpi(MPI_Win_free(&window_), "MPI_Win_free");
}

}  // namespace zeromini
