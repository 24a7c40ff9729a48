// Flags that a program refuses before it does anything: one line, exit code 2,
// and every file as it was.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Run in a folder that holds text, config.json, and the runs o1 and o2.
struct Refusal {
  const char* name;
  const char* program;
  std::string arguments;
  const char* says;
};

// A small run, with `flags` in place of its own.
std::string Pretrain(const std::string& flags) {
  std::string all = absl::StrCat("pretrain --comm self --layers 1 ", flags);
  for (const char* own : {"--data text", "--steps 1", "--eval-every 0",
                          "--hidden 32", "--heads 2", "--length 16"}) {
    const std::string name(own, std::string(own).find(' ') + 1);
    if (!absl::StrContains(flags, name)) absl::StrAppend(&all, " ", own);
  }
  return all;
}

// The same run, measured.
std::string Snr(const std::string& flags) {
  return absl::StrCat(
      "snr --comm self --layers 1 --data text --hidden 32 --heads 2 --length "
      "16 ",
      absl::StrContains(flags, "--steps") ? "" : "--steps 1 ", flags);
}

const Refusal kRefusals[] = {
    {"JsonOverData", ZEROMINI_TRAIN_PROGRAM, Pretrain("--json text"),
     "--json text: is the file that --data reads"},
    {"JsonOverDataByALink", ZEROMINI_TRAIN_PROGRAM, Pretrain("--json link"),
     "--json link: is the file that --data reads, text"},
    {"JsonOverConfig", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--config config.json --json ./config.json"),
     "is the file that --config reads"},
    {"JsonOverMetrics", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--out new --json new/./metrics.jsonl"),
     "is the file that --out writes"},
    {"DataInOut", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--data o1/metrics.jsonl --out o1 --overwrite"),
     "is the file that --data reads"},
    {"PrometheusOverJson", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--out new --json x --prometheus x"),
     "is the file that --json writes"},
    {"ReportOverRun", ZEROMINI_PROGRAM, "report o1 --out o1/run.json",
     "is the file that o1 reads"},
    {"ReportOverJson", ZEROMINI_PROGRAM, "report o1 --out r --json r",
     "is the file that --out writes"},
    {"SummarizeOverRun", ZEROMINI_PROGRAM,
     "summarize o1 o2 --json o2/metrics.jsonl", "is the file that o2 reads"},
    {"PlanOverConfig", ZEROMINI_PROGRAM,
     "plan --ranks 2 --config config.json --json config.json",
     "is the file that --config reads"},
    {"ReplayOverRecording", ZEROMINI_PROGRAM,
     "replay recording --out new --json recording/meta.json",
     "is the file that the replay reads"},
    {"ReplayOverItsWeights", ZEROMINI_PROGRAM,
     "replay recording --out new --json new/params_01.safetensors",
     "is the file that --out writes"},
    {"EmptyOut", ZEROMINI_TRAIN_PROGRAM, Pretrain("--out ''"),
     "--out: is given nothing"},
    {"EmptyJson", ZEROMINI_PROGRAM, "summarize o1 --json ''",
     "--json: is given nothing"},
    {"EmptyRun", ZEROMINI_PROGRAM, "summarize ''", "is given nothing"},
    {"EmptyLength", ZEROMINI_TRAIN_PROGRAM, Pretrain("--length ''"),
     "--length"},
    {"EmptyPlan", ZEROMINI_PROGRAM, "plan --model gpt2 --ranks 2 --json ''",
     "--json: is given nothing"},
    {"HugeEvaluation", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--eval-batches 9223372036854775807"), "--eval-batches"},
    {"WrappingEvaluation", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--batch 65536 --eval-batches 65536"),
     "--batch times --eval-batches, 65536 times 65536, must be from 1 to"},
    {"HugeBatch", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--batch 9223372036854775807"), "--batch"},
    {"WrappingBatch", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--batch 2147483647 --eval-batches 1"),
     "2147483647 times 17, must be from 1 to"},
    {"HugeSteps", ZEROMINI_TRAIN_PROGRAM,
     Pretrain("--steps 9223372036854775807"),
     "--steps: Value 9223372036854775807 not in range"},
    {"NegativeWarmup", ZEROMINI_TRAIN_PROGRAM, Pretrain("--warmup -1"),
     "--warmup: is not a number from 0 up: -1"},
    {"NegativeDecay", ZEROMINI_TRAIN_PROGRAM, Pretrain("--decay-steps -1"),
     "--decay-steps: is not a number from 0 up: -1"},
    {"NegativeFloor", ZEROMINI_TRAIN_PROGRAM, Pretrain("--min-lr -1"),
     "--min-lr: is not a number from 0 up: -1"},
    {"NegativeEvalEvery", ZEROMINI_TRAIN_PROGRAM, Pretrain("--eval-every -1"),
     "--eval-every: is not a number from 0 up: -1"},
    {"NegativeSeed", ZEROMINI_TRAIN_PROGRAM, Pretrain("--seed -1"),
     "--seed: is not a number from 0 up: -1"},
    {"NegativeClip", ZEROMINI_PROGRAM, "replay recording --out new --clip -1",
     "--clip: is not a number from 0 up: -1"},
    {"LongConfigWord", ZEROMINI_PROGRAM, "plan --ranks 2 --config long.json",
     "\xC3\xA9..."},
    {"LinkLoop", ZEROMINI_PROGRAM, "summarize o1 --json loop",
     "loop: cannot be created: Too many levels of symbolic links"},
    {"CutMetricsOfAFinishedRun", ZEROMINI_PROGRAM, "summarize cut",
     "cut/metrics.jsonl:2: is not a JSON object"},
    {"RanksThatAreNoNumber", ZEROMINI_PROGRAM, "report wrong --out new",
     "wrong/run.json: ranks is not a number but \"x\""},
    {"CutGzip", ZEROMINI_TRAIN_PROGRAM, Pretrain("--data cut.gz"),
     "cut.gz: is damaged: unexpected end of file"},
    {"SnrOverData", ZEROMINI_TRAIN_PROGRAM, Snr("--html text --overwrite"),
     "--html text: is the file that --data reads"},
    {"SnrOverItsPage", ZEROMINI_TRAIN_PROGRAM, Snr("--json x --html ./x"),
     "is the file that --json writes"},
    {"SnrOverAnEarlierFile", ZEROMINI_TRAIN_PROGRAM, Snr("--json config.json"),
     "--json config.json: is there already"},
    {"SnrIntoNoFolder", ZEROMINI_TRAIN_PROGRAM, Snr("--json none/x"),
     "none/x: cannot be created"},
    {"SnrOfNoSteps", ZEROMINI_TRAIN_PROGRAM, Snr("--steps 0"),
     "--steps: Value 0 not in range"},
    {"SnrTooSeldom", ZEROMINI_TRAIN_PROGRAM, Snr("--steps 10 --every 11"),
     "--every must be from 1 to --steps, 10, not 11"},
    {"SnrWithoutThreshold", ZEROMINI_TRAIN_PROGRAM, Snr("--threshold 0"),
     "--threshold must be a number above 0"},
    {"SnrOfAnotherOptimizer", ZEROMINI_TRAIN_PROGRAM,
     Snr("--optimizer adam-mini"), "--optimizer"},
    {"ManyThreads", ZEROMINI_TRAIN_PROGRAM, Pretrain("--threads 20000"),
     "--threads: Value 20000 not in range"},
};

class RefusedFlagsTest : public testing::TestWithParam<Refusal> {
 protected:
  RefusedFlagsTest() {
    fs::remove_all(dir_);
    for (const char* run : {"/o1", "/o2"}) {
      fs::create_directories(dir_ + run);
      Put(absl::StrCat(run, "/metrics.jsonl"), "{\"step\":1,\"loss\":2}\n");
      Put(absl::StrCat(run, "/run.json"), "{\"name\":\"n\"}\n");
    }
    Put("/text", std::string(10000, 'x'));
    Put("/config.json",
        "{\"model_type\":\"gpt2\",\"n_embd\":32,\"n_layer\":1,\"n_head\":2,"
        "\"vocab_size\":256,\"n_positions\":32}\n");
    std::string word;
    for (int i = 0; i < 60; ++i) word += "\xC3\xA9";
    Put("/long.json", "{\"model_type\":\"" + word + "\"}\n");
    fs::create_symlink("text", dir_ + "/link");
    fs::create_symlink("loop", dir_ + "/loop");
    fs::copy(dir_ + "/o1", dir_ + "/cut");
    Put("/cut/metrics.jsonl", "{\"step\":1,\"loss\":2}\n{\"step\":2,\"lo");
    fs::copy(dir_ + "/o1", dir_ + "/wrong");
    Put("/wrong/run.json", "{\"ranks\":\"x\"}\n");
    Put("/cut.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10));
    fs::copy(ZEROMINI_GOLDEN_DIR "/G_missing_grads", dir_ + "/recording");
  }
  ~RefusedFlagsTest() override { fs::remove_all(dir_); }

  void Put(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + name, std::ios::binary) << text;
  }

  static std::string Contents(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::map<std::string, std::string> Files() const {
    std::map<std::string, std::string> files;
    for (const auto& file : fs::recursive_directory_iterator(dir_)) {
      // Not through links: a loop of them has no contents, and no status.
      const bool regular = fs::is_regular_file(file.symlink_status());
      files[file.path().string()] = regular ? Contents(file.path()) : "";
    }
    return files;
  }

  const std::string dir_ =
      testing::TempDir() + "refused_flags_test." + std::to_string(getpid());
  const std::string said_ = dir_ + ".said";
};

TEST_P(RefusedFlagsTest, LeaveEveryFileAsItWas) {
  const Refusal& row = GetParam();
  if (row.program[0] == '\0') GTEST_SKIP() << "there is no LibTorch here";
  const auto before = Files();
  const int status = std::system(absl::StrCat("cd ", dir_, " && timeout 120 ",
                                              row.program, " ", row.arguments,
                                              " >", said_, " 2>&1 </dev/null")
                                     .c_str());
  const std::string said = Contents(said_);
  fs::remove(said_);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 2) << said;
  EXPECT_THAT(said, HasSubstr(row.says));
  EXPECT_TRUE(Files() == before) << "files were changed";
}

INSTANTIATE_TEST_SUITE_P(All, RefusedFlagsTest, testing::ValuesIn(kRefusals),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace zeromini
