// A run of seconds: a small model, a made-up text, some thread ranks.

#ifndef ZEROMINI_TESTS_TRAIN_SMALL_RUN_H_
#define ZEROMINI_TESTS_TRAIN_SMALL_RUN_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tools/train/pretrain.h"

namespace zeromini::tools {

inline std::string SomeText() {
  const std::string path = testing::TempDir() + "/training_text.txt";
  std::ofstream file(path);
  uint32_t state = 12345;
  const char* const words[] = {"shard ", "block ",  "row ", "of ",
                               "the ",   "moment ", "is ",  "kept.\n"};
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525u + 1013904223u;
    file << words[state >> 29];
  }
  return path;
}

inline PretrainOptions SmallRun(const std::string& optimizer, int64_t steps) {
  PretrainOptions options;
  options.model = *NamedConfig("llama-1m");
  options.model.hidden = 32;
  options.model.layers = 2;
  options.model.ffn = 64;
  options.model.context = 32;
  options.batch = 8;
  options.data = SomeText();
  options.optimizer = optimizer;
  options.schedule = {ScheduleShape::kCosine, 1e-3, -1, -1, steps};
  options.eval_every = 0;
  options.eval_batches = 2;
  options.out = testing::TempDir() + "/train/" +
                testing::UnitTest::GetInstance()->current_test_info()->name() +
                "-" + optimizer;
  options.overwrite = true;  // What the same test left an hour ago.
  EXPECT_OK(Complete(options));
  return options;
}

inline PretrainResult Train(const PretrainOptions& options, int ranks) {
  PretrainResult result;
  RunRanks(ranks, [&](int rank, Communicator& group) {
    auto trained = Pretrain(options, group);
    ASSERT_OK(trained);
    if (rank == 0) result = *std::move(trained);
  });
  return result;
}

inline PretrainOptions SmallGpt2Run(const std::string& optimizer,
                                    int64_t steps) {
  PretrainOptions options = SmallRun(optimizer, steps);
  options.model = *NamedConfig("gpt2");
  options.model.hidden = 32;
  options.model.layers = 2;
  options.model.ffn = 64;
  options.model.context = 32;
  options.length = 0;
  options.out += "-gpt2";
  EXPECT_OK(Complete(options));
  return options;
}

}  // namespace zeromini::tools

#endif  // ZEROMINI_TESTS_TRAIN_SMALL_RUN_H_
