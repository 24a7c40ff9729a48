// docs/exit-codes.md, verb by verb.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// %d stands for the test's folder. Each takes --json and prints something.
struct Verb {
  const char* name;
  const char* program;
  const char* arguments;
  bool slow = false;
};

const Verb kVerbs[] = {
    {"Info", ZEROMINI_PROGRAM, "info"},
    {"Plan", ZEROMINI_PROGRAM, "plan --model gpt2 --ranks 2"},
    {"Replay", ZEROMINI_PROGRAM,
     "replay " ZEROMINI_GOLDEN_DIR "/G_missing_grads --out %d/out"},
    {"BenchKernels", ZEROMINI_PROGRAM,
     "bench kernels --params 65536 --threads 1 --rows 256 --heads 64 "
     "--repetitions 1"},
    {"BenchComm", ZEROMINI_PROGRAM,
     "bench comm --comm threads --sizes 64 --repetitions 1"},
    {"BenchStep", ZEROMINI_PROGRAM,
     "bench step --comm threads --params 128Ki --repetitions 1"},
    {"BenchMemory", ZEROMINI_PROGRAM,
     "bench memory --model gpt2 --scale 1/12 --optimizer sgd --ranks 1",
     /*slow=*/true},
    {"Report", ZEROMINI_PROGRAM, "report %d/run --out %d/page.html"},
    {"Summarize", ZEROMINI_PROGRAM, "summarize %d/run"},
    {"Pretrain", ZEROMINI_TRAIN_PROGRAM,
     "pretrain --comm self --data %d/text --out %d/out --steps 1 "
     "--eval-batches 1 --hidden 32 --heads 2 --layers 1 --ffn 32 --batch 1 "
     "--length 16"}};

class ExitCodesTest : public testing::TestWithParam<Verb> {
 protected:
  ExitCodesTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_ + "/run");
    std::ofstream(dir_ + "/run/metrics.jsonl") << "{\"step\":1,\"loss\":2}\n";
    std::ofstream(dir_ + "/run/run.json") << "{\"name\":\"n\"}\n";
    std::ofstream(dir_ + "/text") << std::string(10000, 'x');
  }
  ~ExitCodesTest() override { fs::remove_all(dir_); }

  void SetUp() override {
    if (GetParam().program[0] == '\0') {
      GTEST_SKIP() << "there is no LibTorch here";
    }
  }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  int Run(const std::string& more, const std::string& stdout_file) {
    std::string arguments = absl::StrCat(GetParam().arguments, " ", more);
    for (size_t at; (at = arguments.find("%d")) != std::string::npos;) {
      arguments.replace(at, 2, dir_);
    }
    const int status =
        std::system(absl::StrCat("timeout 120 ", GetParam().program, " ",
                                 arguments, " >", stdout_file, " 2>", error_)
                        .c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  // Lines of `text` that begin so: what the program says beside its log.
  static int Lines(const std::string& begin, const std::string& text) {
    int lines = 0;
    for (const auto line : absl::StrSplit(text, '\n')) {
      lines += absl::StartsWith(line, begin) ? 1 : 0;
    }
    return lines;
  }

  const std::string dir_ =
      testing::TempDir() + "exit_codes_test." + std::to_string(getpid());
  const std::string out_ = dir_ + "/stdout";
  const std::string error_ = dir_ + "/stderr";
};

TEST_P(ExitCodesTest, ZeroWhenAllWasDone) {
  if (GetParam().slow) GTEST_SKIP() << "slow";
  ASSERT_EQ(Run("--json %d/json", out_), 0) << Contents(error_);
  EXPECT_THAT(Contents(dir_ + "/json"), Not(IsEmpty()));
  EXPECT_THAT(Contents(out_), Not(IsEmpty()));
}

TEST_P(ExitCodesTest, TwoForAnUnknownFlag) {
  EXPECT_EQ(Run("--speed 9", out_), 2);
  EXPECT_THAT(Contents(error_), HasSubstr("--speed"));
}

TEST_P(ExitCodesTest, TwoBeforeAnyWorkForAPathThatCannotBeWritten) {
  for (const char* path : {"%d/none/json", "%d", "%d/run/run.json/below"}) {
    EXPECT_EQ(Run(absl::StrCat("--json ", path), out_), 2) << path;
    const std::string error = Contents(error_);
    EXPECT_THAT(error, AllOf(HasSubstr(dir_), HasSubstr("cannot be created")));
    EXPECT_EQ(Lines("zeromini", error), 1) << error;
    EXPECT_THAT(Contents(out_), IsEmpty());
    EXPECT_FALSE(fs::exists(dir_ + "/out/params_01.safetensors"));
    EXPECT_FALSE(fs::exists(dir_ + "/page.html"));
  }
}

TEST_P(ExitCodesTest, OneForAFullDisk) {
  EXPECT_EQ(Run("--json /dev/full", out_), 1);
  EXPECT_THAT(Contents(error_),
              AllOf(HasSubstr("/dev/full"), HasSubstr("No space left")));
}

TEST_P(ExitCodesTest, OneForAFullStdout) {
  if (GetParam().slow) GTEST_SKIP() << "slow";
  EXPECT_EQ(Run("", "/dev/full"), 1);
  EXPECT_THAT(Contents(error_), HasSubstr("stdout: cannot be written"));
}

TEST(JobTest, AProgramThatIsNoRankDoesNotEndTheJobThatRunsIt) {
  if (ZEROMINI_MPIEXEC[0] == '\0') GTEST_SKIP() << "there is no MPI here";
  const std::string done =
      testing::TempDir() + "job_test." + std::to_string(getpid());
  const int status = std::system(
      absl::StrCat("timeout 60 ", ZEROMINI_MPIEXEC, " --enable-recovery -n 1 ",
                   "bash -c '", ZEROMINI_PROGRAM,
                   " plan --speed 9; sleep 3; touch ", done, "' 2>/dev/null")
          .c_str());
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(fs::remove(done));
}

TEST_P(ExitCodesTest, OneForAClosedStdoutWhateverElseIsClosed) {
  if (GetParam().slow) GTEST_SKIP() << "slow";
  EXPECT_EQ(Run("<&-", "&-"), 1);
  EXPECT_THAT(Contents(error_), HasSubstr("stdout: cannot be written"));
}

INSTANTIATE_TEST_SUITE_P(All, ExitCodesTest, testing::ValuesIn(kVerbs),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace zeromini
