#include "tools/train/text_data.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <new>
#include <set>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "support/status_matchers.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TextData MakeText(int64_t size) {
  std::string bytes(size, '\0');
  for (int64_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>((i * 7919 + i / 251) & 0xFF);
  }
  return *TextData::FromBytes(bytes, 16, "test");
}

// Of this process, in bytes.
rlim_t AddressSpace() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

std::vector<int64_t> Training(const TextData& data,
                              const SampleRequest& request) {
  return data.Training(request).value();
}

std::vector<int64_t> Validation(const TextData& data, int64_t first,
                                int64_t count, int64_t total) {
  return data.Validation(first, count, total, 16).value();
}

TEST(TextDataTest, GlobalBatchDoesNotDependOnHowItIsDealt) {
  const TextData data = MakeText(10000);
  const std::vector<int64_t> whole = Training(data, {3, 11, 0, 12, 16});
  for (int64_t parts : {2, 3, 4, 6, 12}) {
    std::vector<int64_t> joined;
    for (int64_t part = 0; part < parts; ++part) {
      const auto slice =
          Training(data, {3, 11, part * 12 / parts, 12 / parts, 16});
      joined.insert(joined.end(), slice.begin(), slice.end());
    }
    EXPECT_EQ(joined, whole) << parts;
  }
}

TEST(TextDataTest, StepsAndSeedsDrawOtherSequences) {
  const TextData data = MakeText(10000);
  const auto base = Training(data, {3, 11, 0, 4, 16});
  EXPECT_NE(base, Training(data, {3, 12, 0, 4, 16}));
  EXPECT_NE(base, Training(data, {4, 11, 0, 4, 16}));
  EXPECT_EQ(base, Training(data, {3, 11, 0, 4, 16}));
}

TEST(TextDataTest, TrainingNeverSeesValidation) {
  std::string bytes(1000, 'a');
  bytes.replace(950, 50, std::string(50, 'z'));
  ASSERT_OK_AND_ASSIGN(const TextData data,
                       TextData::FromBytes(bytes, 16, "test"));
  EXPECT_EQ(data.training_tokens(), 950);
  for (int64_t step = 0; step < 500; ++step) {
    for (int64_t token : Training(data, {1, step, 0, 4, 16})) {
      ASSERT_EQ(token, 'a');
    }
  }
  for (int64_t token : Validation(data, 0, 8, 8)) ASSERT_EQ(token, 'z');
}

TEST(TextDataTest, ValidationReachesBothEnds) {
  std::string bytes(2000, 'a');
  bytes[1900] = 'b';
  bytes.back() = 'c';
  ASSERT_OK_AND_ASSIGN(const TextData data,
                       TextData::FromBytes(bytes, 16, "test"));
  const auto tokens = Validation(data, 0, 5, 5);
  ASSERT_EQ(tokens.size(), 5u * 17u);
  EXPECT_EQ(tokens.front(), 'b');
  EXPECT_THAT(Validation(data, 4, 1, 5),
              testing::ElementsAreArray(tokens.end() - 17, tokens.end()));
}

TEST(TextDataTest, BytesAbove127StayTokensBelow256) {
  ASSERT_OK_AND_ASSIGN(
      const TextData data,
      TextData::FromBytes(std::string(1000, '\xE2'), 16, "test"));
  for (int64_t token : Training(data, {1, 1, 0, 2, 16})) EXPECT_EQ(token, 0xE2);
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

TEST(TextDataTest, RefusesWhatIsNoRegularFile) {
  const std::string fifo = testing::TempDir() + "/text.fifo";
  std::remove(fifo.c_str());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path :
       {fifo, testing::TempDir(), std::string("/dev/zero")}) {
    EXPECT_THAT(TextData::Load(path, 16),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(path), HasSubstr("regular file"))));
  }
}

TEST(TextDataTest, RefusesOtherPackedFilesByName) {
  const std::pair<const char*, std::string> formats[] = {
      {"xz", std::string("\xFD"
                         "7zXZ\0",
                         6)},
      {"zstd", "\x28\xB5\x2F\xFD"},
      {"bzip2", "BZh9\x31\x41\x59\x26\x53\x59"},
      {"zip", "PK\x03\x04"}};
  for (const auto& [name, magic] : formats) {
    const std::string path = testing::TempDir() + "/text.packed";
    std::ofstream(path) << magic << std::string(5000, 'x');
    EXPECT_THAT(TextData::Load(path, 16),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(path), HasSubstr(name),
                               HasSubstr("unpack it"))));
  }
}

// Of memory that grows with the file there is too little.
TEST(TextDataTest, ALargeTextNeedsNoMemory) {
  const std::string path = testing::TempDir() + "/large.txt";
  std::ofstream(path) << "text";
  constexpr int64_t kSize = int64_t{256} << 20;
  std::filesystem::resize_file(path, kSize);
  rlimit before = {};
  getrlimit(RLIMIT_AS, &before);
  const rlimit limit = {AddressSpace() + (rlim_t{64} << 20), before.rlim_max};
  setrlimit(RLIMIT_AS, &limit);
  absl::StatusOr<TextData> data = absl::UnknownError("bad_alloc");
  try {
    data = TextData::Load(path, 16);
  } catch (const std::bad_alloc&) {
  }
  setrlimit(RLIMIT_AS, &before);
  std::filesystem::remove(path);
  ASSERT_OK(data);
  EXPECT_EQ(data->training_tokens() + data->validation_tokens(), kSize);
}

TEST(TextDataTest, AGzipUnpacksToALimitThatIsTold) {
  const std::string path = testing::TempDir() + "/bomb.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  const std::string text(100000, 'x');
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  ASSERT_OK_AND_ASSIGN(const auto whole, TextSource::Open(path, 100000));
  EXPECT_EQ(whole->size(), 100000);
  EXPECT_THAT(TextSource::Open(path, 99999),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(path), HasSubstr("99999 bytes"),
                             HasSubstr("unpack it"))));
}

TEST(TextDataTest, TheHashIsOfTheTextAndOfAllOfIt) {
  const std::string text(3 << 20, 'x');
  const std::string path = testing::TempDir() + "/hashed.txt";
  std::ofstream(path) << text;
  ASSERT_OK_AND_ASSIGN(const auto file, TextSource::Open(path));
  ASSERT_OK_AND_ASSIGN(const uint64_t hash, HashOf(*file));
  EXPECT_EQ(HashOf(*TextSource::FromBytes(text)).value(), hash);
  for (size_t at : {size_t{0}, size_t{1} << 20, text.size() - 1}) {
    std::string other = text;
    other[at] = static_cast<char>(other[at] ^ 0x80);
    EXPECT_NE(HashOf(*TextSource::FromBytes(other)).value(), hash) << at;
    other[at / 2] = static_cast<char>(other[at / 2] ^ 0x80);
    EXPECT_EQ(HashOf(*TextSource::FromBytes(other)).value() == hash, at == 0);
  }
  EXPECT_NE(HashOf(*TextSource::FromBytes(text + '\0')).value(), hash);
}

TEST(TextDataTest, NamesAFileThatWasCutMeanwhile) {
  const std::string path = testing::TempDir() + "/cut.txt";
  std::ofstream(path) << std::string(5000, 'x');
  ASSERT_OK_AND_ASSIGN(const TextData data, TextData::Load(path, 16));
  std::filesystem::resize_file(path, 100);
  EXPECT_THAT(data.Validation(0, 4, 4, 16),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path)));
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
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(path + ": is damaged: unexpected end")));
}

}  // namespace
}  // namespace zeromini::tools
