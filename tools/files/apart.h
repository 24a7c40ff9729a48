// That a program writes over none of its own files.

#ifndef ZEROMINI_TOOLS_FILES_APART_H_
#define ZEROMINI_TOOLS_FILES_APART_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace zeromini::tools {

// A file, which need not be there, and the flag that says so; no file if `path`
// is empty.
struct FlagFile {
  std::string flag;
  std::string path;
};

// The regular files in `folder`, as files of `flag`.
std::vector<FlagFile> FilesIn(const std::string& flag,
                              const std::string& folder);

// InvalidArgument, naming both flags and the file, if an output is an input or
// another output, by whatever name or link. Devices and pipes may be shared.
absl::Status CheckApart(const std::vector<FlagFile>& inputs,
                        const std::vector<FlagFile>& outputs);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FILES_APART_H_
