// AtomicFile: a file that appears whole or not at all.

#ifndef ZEROMINI_RUNTIME_ATOMIC_FILE_H_
#define ZEROMINI_RUNTIME_ATOMIC_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini {

// Not thread-safe. Two writers of one path do not share the file beside it;
// the last to commit wins.
class AtomicFile {
 public:
  // Creates a new file beside `path`. PermissionDenied, naming the path, if
  // that cannot be done; so for the calls below.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(
      const std::string& path);

  ~AtomicFile();  // Without Commit(), removes what was written.
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  absl::Status Append(const void* data, int64_t bytes);

  // Syncs, renames onto `path`, syncs the directory. Once, at the end.
  absl::Status Commit();

 private:
  AtomicFile(std::string path, std::string beside, int fd);
  absl::Status Failed(const char* what) const;

  const std::string path_;
  const std::string beside_;
  int fd_;
  bool committed_ = false;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_ATOMIC_FILE_H_
