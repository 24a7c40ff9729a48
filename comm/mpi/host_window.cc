#include "comm/mpi/host_window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <random>

#include "absl/strings/str_format.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int64_t kPage = 4096;

constexpr int64_t Pages(int64_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

constexpr int64_t kSlotBytes = Pages(sizeof(HostSlot));

// Travels as plain bytes.
struct Name {
  char text[56] = "";
  int32_t error = 0;
};

class OpenFile {
 public:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}
  ~OpenFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

class Unlinked {
 public:
  explicit Unlinked(const std::string& name) : name_(name) {}
  ~Unlinked() {
    if (!name_.empty()) shm_unlink(name_.c_str());
  }
  Unlinked(const Unlinked&) = delete;
  Unlinked& operator=(const Unlinked&) = delete;

 private:
  const std::string name_;
};

// An errno. In pieces, for a signal undoes the one it comes in: a profiler's
// come often.
int Reserve(int file, int64_t begin, int64_t bytes) {
  constexpr int64_t kPiece = 64 * kPage;
  for (int64_t done = 0; done < bytes;) {
    const int64_t piece = std::min(kPiece, bytes - done);
    const int error = posix_fallocate(file, begin + done, piece);
    if (error == EINTR) continue;
    if (error != 0) return error;
    done += piece;
  }
  return 0;
}

}  // namespace

HostWindow::HostWindow(int index, int size, int64_t bytes)
    : index_(index), size_(size), stride_(kSlotBytes + Pages(bytes)) {}

int HostWindow::Offer(std::string* name) {
  std::random_device random;
  *name =
      absl::StrFormat("/zeromini-%d-%08x%08x", getpid(), random(), random());
  const OpenFile file(
      shm_open(name->c_str(), O_CREAT | O_EXCL | O_RDWR, S_IRUSR | S_IWUSR));
  if (file.get() < 0) return errno;
  int failed = 0;
  do {
    failed = ftruncate(file.get(), size_ * stride_);
  } while (failed != 0 && errno == EINTR);
  return failed == 0 ? 0 : errno;
}

int HostWindow::Take(const std::string& name) {
  const OpenFile file(shm_open(name.c_str(), O_RDWR, 0));
  if (file.get() < 0) return errno;
  // Now, for later it would be SIGBUS. Each rank its own part, so that it lies
  // in the memory next to it.
  const int error = Reserve(file.get(), index_ * stride_, stride_);
  if (error != 0) return error;
  void* memory = mmap(nullptr, size_ * stride_, PROT_READ | PROT_WRITE,
                      MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return errno;
  memory_ = static_cast<char*>(memory);
  return 0;
}

int HostWindow::TakeAlone() {
  void* memory = mmap(nullptr, stride_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  memory_ = static_cast<char*>(memory);
  return 0;
}

void HostWindow::PlaceSlots() {
  for (int i = 0; i < size_; ++i) {
    char* const place = memory_ + i * stride_;
    slots_.push_back(reinterpret_cast<HostSlot*>(place));
    payloads_.push_back(place + kSlotBytes);
  }
  new (slots_[index_]) HostSlot();
}

absl::StatusOr<HostWindow::Made> HostWindow::Create(MpiSetup& setup,
                                                    MPI_Comm comm,
                                                    const HostMap& hosts,
                                                    int64_t bytes) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const std::vector<int>& neighbours = hosts.ranks_of(hosts.host_of(rank));
  const int size = static_cast<int>(neighbours.size());
  auto window = std::unique_ptr<HostWindow>(
      new HostWindow(hosts.index_of(rank), size, bytes));
  Name offered;
  std::string name;
  if (size > 1 && window->index_ == 0) {
    offered.error = window->Offer(&name);
    std::strncpy(offered.text, name.c_str(), sizeof(offered.text) - 1);
  }
  auto names = setup.AllGather(comm, offered);
  // Until all have it open, or have failed to.
  const Unlinked unlinked(name);
  ZEROMINI_RETURN_IF_ERROR(names.status());
  int error = (*names)[neighbours[0]].error;
  if (error == 0) {
    error = size == 1 ? window->TakeAlone()
                      : window->Take((*names)[neighbours[0]].text);
  }
  // Nobody may look at a slot that is not there yet: the gather sees to it.
  if (error == 0) window->PlaceSlots();
  auto errors = setup.AllGather(comm, error);
  ZEROMINI_RETURN_IF_ERROR(errors.status());
  for (int theirs : *errors) {
    if (theirs == 0) continue;
    window->Free();
    return Made{nullptr, *std::move(errors)};
  }
  return Made{std::move(window), {}};
}

void HostWindow::Free() {
  if (memory_ != nullptr) munmap(memory_, size_ * stride_);
  memory_ = nullptr;
}

}  // namespace zeromini
