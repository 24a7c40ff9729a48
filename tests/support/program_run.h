// The zeromini program, as a user runs it. Needs ZEROMINI_PROGRAM and
// ZEROMINI_MPIEXEC ("" without MPI) from the build.

#ifndef ZEROMINI_TESTS_SUPPORT_PROGRAM_RUN_H_
#define ZEROMINI_TESTS_SUPPORT_PROGRAM_RUN_H_

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace zeromini {

struct Ran {
  int exit_code = -1;
  std::string error;    // What it wrote to stderr.
  nlohmann::json json;  // Of --json; discarded unless it is well-formed.
};

// A folder of its own for each test.
class ProgramTest : public testing::Test {
 protected:
  ProgramTest() { std::filesystem::create_directories(dir_); }
  ~ProgramTest() override { std::filesystem::remove_all(dir_); }

  static bool HasMpi() { return ZEROMINI_MPIEXEC[0] != '\0'; }

  Ran Run(const std::string& arguments) {
    return RunCommand(absl::StrCat(ZEROMINI_PROGRAM, " ", arguments, " --json ",
                                   dir_, "/json"));
  }

  Ran RunOverMpi(int ranks, const std::string& arguments) {
    return RunCommand(absl::StrCat(ZEROMINI_MPIEXEC, " -n ", ranks, " ",
                                   ZEROMINI_PROGRAM, " ", arguments, " --json ",
                                   dir_, "/json"));
  }

  Ran RunCommand(const std::string& command) {
    const std::string json = dir_ + "/json";
    std::filesystem::remove(json);
    const int status = std::system(
        absl::StrCat(command, " >", dir_, "/stdout 2>", dir_, "/stderr")
            .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            Contents(dir_ + "/stderr"),
            nlohmann::json::parse(Contents(json), nullptr, false)};
  }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  const std::string dir_ =
      testing::TempDir() + "program_test." + std::to_string(getpid());
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_PROGRAM_RUN_H_
