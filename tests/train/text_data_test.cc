#include "tools/train/text_data.h"

#include <zlib.h>

#include <fstream>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "support/status_matchers.h"

namespace zeromini::tools {
namespace {

using testing::HasSubstr;

TextData MakeText(int64_t size) {
  std::string bytes(size, '\0');
  for (int64_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>((i * 7919 + i / 251) & 0xFF);
  }
  return *TextData::FromBytes(bytes, 16, "test");
}

TEST(TextDataTest, GlobalBatchDoesNotDependOnHowItIsDealt) {
  const TextData data = MakeText(10000);
  const std::vector<int64_t> whole = data.Training({3, 11, 0, 12, 16});
  for (int64_t parts : {2, 3, 4, 6, 12}) {
    std::vector<int64_t> joined;
    for (int64_t part = 0; part < parts; ++part) {
      const auto slice =
          data.Training({3, 11, part * 12 / parts, 12 / parts, 16});
      joined.insert(joined.end(), slice.begin(), slice.end());
    }
    EXPECT_EQ(joined, whole) << parts;
  }
}

TEST(TextDataTest, StepsAndSeedsDrawOtherSequences) {
  const TextData data = MakeText(10000);
  const auto base = data.Training({3, 11, 0, 4, 16});
  EXPECT_NE(base, data.Training({3, 12, 0, 4, 16}));
  EXPECT_NE(base, data.Training({4, 11, 0, 4, 16}));
  EXPECT_EQ(base, data.Training({3, 11, 0, 4, 16}));
}

TEST(TextDataTest, TrainingNeverSeesValidation) {
  std::string bytes(1000, 'a');
  bytes.replace(950, 50, std::string(50, 'z'));
  ASSERT_OK_AND_ASSIGN(const TextData data,
                       TextData::FromBytes(bytes, 16, "test"));
  EXPECT_EQ(data.training_tokens(), 950);
  for (int64_t step = 0; step < 500; ++step) {
    for (int64_t token : data.Training({1, step, 0, 4, 16})) {
      ASSERT_EQ(token, 'a');
    }
  }
  for (int64_t token : data.Validation(0, 8, 8, 16)) ASSERT_EQ(token, 'z');
}

TEST(TextDataTest, ValidationReachesBothEnds) {
  std::string bytes(2000, 'a');
  bytes[1900] = 'b';
  bytes.back() = 'c';
  ASSERT_OK_AND_ASSIGN(const TextData data,
                       TextData::FromBytes(bytes, 16, "test"));
  const auto tokens = data.Validation(0, 5, 5, 16);
  ASSERT_EQ(tokens.size(), 5u * 17u);
  EXPECT_EQ(tokens.front(), 'b');
  EXPECT_THAT(data.Validation(4, 1, 5, 16),
              testing::ElementsAreArray(tokens.end() - 17, tokens.end()));
}

TEST(TextDataTest, BytesAbove127StayTokensBelow256) {
  ASSERT_OK_AND_ASSIGN(
      const TextData data,
      TextData::FromBytes(std::string(1000, '\xE2'), 16, "test"));
  for (int64_t token : data.Training({1, 1, 0, 2, 16})) EXPECT_EQ(token, 0xE2);
}

TEST(TextDataTest, ReadsGzipAndPlainAlike) {
  const std::string text(5000, 'x');
  const std::string plain = testing::TempDir() + "/text_data.txt";
  std::ofstream(plain) << text;
  const std::string packed = plain + ".gz";
  gzFile file = gzopen(packed.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  for (const std::string& path : {plain, packed}) {
    ASSERT_OK_AND_ASSIGN(const TextData data, TextData::Load(path, 16));
    EXPECT_EQ(data.training_tokens() + data.validation_tokens(), 5000) << path;
  }
}

TEST(TextDataTest, NamesTheFileThatCannotServe) {
  EXPECT_THAT(
      TextData::Load("/no/such/file", 16),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/file")));
  EXPECT_THAT(TextData::FromBytes("too short", 16, "tiny.txt"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tiny.txt: 9 bytes")));
}

TEST(TextDataTest, RefusesATruncatedGzip) {
  const std::string path = testing::TempDir() + "/cut.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  std::string text;
  for (int i = 0; i < 20000; ++i) text += std::to_string(i * 2654435761u);
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  std::ifstream whole(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(whole)), {});
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      << bytes.substr(0, bytes.size() / 2);
  EXPECT_THAT(TextData::Load(path, 16),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path)));
}

}  // namespace
}  // namespace zeromini::tools
