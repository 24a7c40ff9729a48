#include "zeromini/internal/json_text.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

std::string Nested(int depth, const char* open, const char* close) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += open;
  text += "1";
  for (int i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(JsonTextTest, OneValueAndWhiteSpaceIsGood) {
  for (const char* text :
       {"{}", " [1, 2.5e3, null, true]\r\n\t ", "\"\xC3\xA9\\ud83d\\ude00\"",
        R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})", "3"}) {
    EXPECT_OK(CheckJson(text)) << text;
  }
}

struct BadText {
  std::string text;
  const char* message;
};

class BadJsonTextTest : public testing::TestWithParam<BadText> {};

TEST_P(BadJsonTextTest, IsRefusedWithItsReason) {
  EXPECT_THAT(CheckJson(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadJsonTextTest,
    testing::Values(
        BadText{"", "ends in the middle"}, BadText{" \n", "ends in the middle"},
        BadText{"{\"a\":", "ends in the middle"},
        BadText{"{\"a\":1}\n{}", "malformed at line 2, column 1"},
        BadText{"{\n  \"a\": x}", "malformed at line 2, column 8"},
        BadText{"[1,]", "malformed at line 1, column 4"},
        BadText{"\xEF\xBB\xBF{}", "byte-order mark"},
        BadText{std::string("{}\0", 3), "NUL byte at offset 2"},
        BadText{std::string("{}\0garbage", 10), "NUL byte at offset 2"},
        BadText{std::string("{\"a\0b\":1}", 9), "NUL byte at offset 3"},
        BadText{"{\"a\":1,\"b\":2,\"a\":3}", "key \"a\": is listed twice"},
        BadText{"[{\"x\":{\"k\":1,\"k\":1}}]", "key \"k\": is listed twice"},
        BadText{"{\"a\":1,\"\\u0061\":1}", "key \"a\": is listed twice"},
        BadText{"[\"\xff\"]", "not UTF-8 at line 1"},
        BadText{"{\"\xC3\":1}", "not UTF-8 at line 1"},
        BadText{"[NaN]", "malformed"}, BadText{"[1e999]", "malformed"},
        BadText{Nested(kJsonDepth + 1, "[", "]"), "deeper than 200"},
        BadText{Nested(1000000, "[", "]"), "deeper than 200"},
        BadText{Nested(1000000, "{\"a\":", "}"), "deeper than 200"}));

TEST(JsonTextTest, TheDeepestNestingIsGood) {
  EXPECT_OK(CheckJson(Nested(kJsonDepth, "[", "]")));
  EXPECT_OK(CheckJson(Nested(kJsonDepth, "{\"a\":", "}")));
}

}  // namespace
}  // namespace zeromini
