// AtomicFile: a file that appears whole or not at all.

#ifndef ZEROMINI_INTERNAL_ATOMIC_FILE_H_
#define ZEROMINI_INTERNAL_ATOMIC_FILE_H_

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
  // Creates a new file beside `path`, or beside what the link `path` leads to;
  // one that a killed writer left there is removed. InvalidArgument if `path`
  // is something other than a regular file; PermissionDenied if the file cannot
  // be created; ResourceExhausted for a full disk. Messages name the path.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(
      const std::string& path);

  ~AtomicFile();  // Without Commit(), removes what was written.
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // ResourceExhausted for a full disk, or by the system's error.
  absl::Status Append(const void* data, int64_t bytes);

  // Syncs, renames onto `path`, syncs the directory. Once, at the end. The
  // permissions of a file that was there stay.
  absl::Status Commit();

 private:
  AtomicFile(std::string path, std::string target, std::string beside, int fd);
  absl::Status Failed(const char* what) const;

  const std::string path_;    // As given.
  const std::string target_;  // Without links.
  const std::string beside_;
  int fd_;
  bool committed_ = false;
};

// The path that the file beside it, `beside`, was for; "" if `beside` is none.
std::string PathOfPartial(const std::string& beside);

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_ATOMIC_FILE_H_
