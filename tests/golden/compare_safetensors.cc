// compare_safetensors ACTUAL EXPECTED: prints how far two files of F32 tensors
// are apart. Ends 0 if they are within --absolute and --relative (of each
// tensor's largest entry; default 0, 0), 1 if not, 2 if they do not match.

#include <cstdio>

#include "CLI/CLI.hpp"
#include "support/tensor_files.h"

int main(int argc, char** argv) {
  CLI::App app("How far two files of F32 tensors are apart");
  std::string actual;
  std::string expected;
  double absolute = 0;
  double relative = 0;
  app.add_option("actual", actual)->required();
  app.add_option("expected", expected)->required();
  auto* by_value = app.add_option("--absolute", absolute);
  auto* by_largest = app.add_option("--relative", relative);
  CLI11_PARSE(app, argc, argv);
  const auto difference = zeromini::CompareTensorFiles(actual, expected);
  if (!difference.ok()) {
    std::fprintf(stderr, "%s\n",
                 std::string(difference.status().message()).c_str());
    return 2;
  }
  std::printf("absolute %.3g, relative %.3g%s%s\n", difference->absolute,
              difference->relative,
              difference->worst_tensor.empty() ? "" : ", worst ",
              difference->worst_tensor.c_str());
  const bool neither = by_value->empty() && by_largest->empty();
  const bool value_good =
      (by_value->empty() && !neither) || difference->absolute <= absolute;
  const bool largest_good =
      by_largest->empty() || difference->relative <= relative;
  return value_good && largest_good ? 0 : 1;
}
