// OutputFolder: a folder that one run writes, and no other at the same time.

#ifndef ZEROMINI_TOOLS_FILES_OUTPUT_FOLDER_H_
#define ZEROMINI_TOOLS_FILES_OUTPUT_FOLDER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini::tools {

struct OutputFolderRules {
  // True for the names of files that such a run writes.
  std::function<bool(const std::string& name)> ours;
  // Whether the folder may hold other files, which are left alone.
  bool others_allowed = true;
  // Whether an earlier run's files go. Without it they are a reason to refuse.
  bool overwrite = false;
  // How the user asks for `overwrite`.
  std::string overwrite_flag = "--overwrite";
};

// Move-only. Holds a lock file, .zeromini-lock, as long as it lives; where the
// file system has no locks, two runs are not told apart.
class OutputFolder {
 public:
  // Makes the folder if there is none. On one process alone: rank 0.
  // AlreadyExists if it holds an earlier run; FailedPrecondition if another run
  // is writing to it, or if it holds what is not ours and must not;
  // PermissionDenied if it cannot be made or written to. Messages name the
  // folder and the file. With `overwrite`, all that is `ours` is removed first,
  // and in every case what killed writers left (.partial-N).
  static absl::StatusOr<OutputFolder> Claim(const std::string& path,
                                            const OutputFolderRules& rules);

  // Of the lock file in `folder`.
  static std::string LockPath(const std::string& folder);

  // Frees the folder and removes the lock file, if the folder is in its place.
  ~OutputFolder();
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&& other) noexcept;

  const std::string& path() const { return path_; }

  // Aborted if path() no longer names this folder: it was moved or removed, or
  // its lock file was. Asked before a file is written or replaced by its name.
  absl::Status CheckInPlace() const;

 private:
  OutputFolder(std::string path, int lock);
  void Free();

  std::string path_;
  int lock_;  // Descriptor; -1 after a move.
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FILES_OUTPUT_FOLDER_H_
