// Every verb that reads a file, and every kind of bad file: one line, which
// names it, exit 2, and no wait.

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kGood[] =
    R"({"model_type":"llama","hidden_size":8,"loss":1,"step":1})";

// Under keys that the readers look into.
std::string Nested() {
  const std::string lists =
      absl::StrCat(std::string(100000, '['), std::string(100000, ']'));
  return absl::StrCat("{\"optimizer\":", lists, ",\"options\":{\"a\":", lists,
                      "},\"bytes\":{\"a\":", lists, "}}\n");
}

struct BadFile {
  const char* name;
  void (*make)(const std::string& path);
};

void Put(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

const BadFile kBadFiles[] = {
    {"Missing", [](const std::string&) {}},
    {"Folder", [](const std::string& path) { fs::create_directories(path); }},
    {"Pipe",
     [](const std::string& path) { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); }},
    {"EndlessDevice",
     [](const std::string& path) { fs::create_symlink("/dev/zero", path); }},
    {"Huge",
     [](const std::string& path) {
       Put(path, "{");
       fs::resize_file(path, uintmax_t{1} << 36);
     }},
    {"ByteOrderMark",
     [](const std::string& path) {
       Put(path, absl::StrCat("\xEF\xBB\xBF", kGood, "\n"));
     }},
    {"NulTail",
     [](const std::string& path) {
       Put(path, absl::StrCat(kGood, std::string(1, '\0'), "garbage\n"));
     }},
    {"GarbageTail",
     [](const std::string& path) {
       Put(path, absl::StrCat(kGood, "garbage\n"));
     }},
    {"DeepNesting", [](const std::string& path) { Put(path, Nested()); }},
    {"DuplicateKey",
     [](const std::string& path) { Put(path, "{\"loss\":1,\"loss\":2}\n"); }},
    {"NotUtf8",
     [](const std::string& path) { Put(path, "{\"loss\":\"\xff\"}\n"); }},
    {"Truncated", [](const std::string& path) { Put(path, "{\"loss\":"); }},
    {"Empty", [](const std::string& path) { Put(path, ""); }}};

// A verb, and which of its files is bad. %d stands for the test's folder.
struct Reader {
  const char* name;
  const char* program;
  const char* arguments;
  const char* file;
  const char* fine = "";  // Bad files that this one takes.
};

const Reader kReaders[] = {
    {"ReplayMeta", ZEROMINI_PROGRAM, "replay %d/in --out %d/out",
     "in/meta.json"},
    {"ReplayWeights", ZEROMINI_PROGRAM, "replay %d/in --out %d/out",
     "in/params_00.safetensors"},
    {"ReplayGradients", ZEROMINI_PROGRAM, "replay %d/in --out %d/out",
     "in/grads_03.safetensors"},
    {"PlanConfig", ZEROMINI_PROGRAM, "plan --config %d/config.json --ranks 2",
     "config.json"},
    // An interrupted run has no run.json, and may have no step.
    {"ReportRun", ZEROMINI_PROGRAM, "report %d/run --out %d/page.html",
     "run/run.json", "Missing"},
    {"ReportMetrics", ZEROMINI_PROGRAM, "report %d/run --out %d/page.html",
     "run/metrics.jsonl", "Empty"},
    {"SummarizeRun", ZEROMINI_PROGRAM, "summarize %d/run", "run/run.json",
     "Missing"},
    {"SummarizeMetrics", ZEROMINI_PROGRAM, "summarize %d/run",
     "run/metrics.jsonl", "Empty"},
    {"PretrainConfig", ZEROMINI_TRAIN_PROGRAM,
     "pretrain --config %d/config.json --data %d/text --out %d/out",
     "config.json"}};

class BadFilesTest
    : public testing::TestWithParam<std::tuple<Reader, BadFile>> {
 protected:
  BadFilesTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_ + "/in");
    fs::create_directories(dir_ + "/run");
    for (const auto& file :
         fs::directory_iterator(ZEROMINI_GOLDEN_DIR "/G_missing_grads")) {
      fs::copy_file(file, dir_ + "/in/" + file.path().filename().string());
    }
    Put(dir_ + "/run/metrics.jsonl", absl::StrCat(kGood, "\n"));
    Put(dir_ + "/run/run.json", kGood);
    Put(dir_ + "/text", std::string(100000, 'x'));
  }
  ~BadFilesTest() override { fs::remove_all(dir_); }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  // The exit code; `timeout` makes it 124 for a program that waits.
  int Run(const Reader& reader) {
    std::string arguments = reader.arguments;
    for (size_t at; (at = arguments.find("%d")) != std::string::npos;) {
      arguments.replace(at, 2, dir_);
    }
    const int status = std::system(
        absl::StrCat("ulimit -c 0; timeout 60 ", reader.program, " ", arguments,
                     " >", dir_, "/stdout 2>", dir_, "/stderr </dev/null")
            .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  const std::string dir_ =
      testing::TempDir() + "bad_files_test." + std::to_string(getpid());
};

TEST_P(BadFilesTest, IsNamedInOneLineAndEndsWithTwo) {
  const auto& [reader, bad] = GetParam();
  if (reader.program[0] == '\0') GTEST_SKIP() << "there is no LibTorch here";
  const std::string path = dir_ + "/" + reader.file;
  fs::remove(path);
  bad.make(path);
  const int exit_code = Run(reader);
  const std::string error = Contents(dir_ + "/stderr");
  if (bad.name == std::string(reader.fine)) {
    EXPECT_EQ(exit_code, 0) << error;
    return;
  }
  EXPECT_EQ(exit_code, 2) << error;
  EXPECT_THAT(error, HasSubstr(path));
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
}

INSTANTIATE_TEST_SUITE_P(All, BadFilesTest,
                         testing::Combine(testing::ValuesIn(kReaders),
                                          testing::ValuesIn(kBadFiles)),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param).name,
                                               std::get<1>(test.param).name);
                         });

}  // namespace
}  // namespace zeromini
