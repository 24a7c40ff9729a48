#include "zeromini/safetensors.h"

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string FreshDirectory() {
  const std::string dir =
      testing::TempDir() + "safetensors_test." + std::to_string(getpid());
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  return dir;
}

void WriteRaw(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string ReadRaw(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string FileOf(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) {
    file[i] = static_cast<char>(header.size() >> (8 * i));
  }
  return file + header + std::string(data_bytes, 'x');
}

class SafetensorsTest : public testing::Test {
 protected:
  absl::Status OpenRaw(const std::string& bytes) {
    WriteRaw(path_, bytes);
    return SafetensorsReader::Open(path_).status();
  }

  const std::string dir_ = FreshDirectory();
  const std::string path_ = dir_ + "/file.safetensors";
};

TEST_F(SafetensorsTest, ReadsBackEveryFormatShapeAndByte) {
  const std::vector<float> f32 = {1.5f, -0.0f, 3e-45f, 4, 5, 6};
  const double f64 = 0.1;
  const uint16_t half[] = {1, 2, 3};
  const std::vector<int64_t> i64 = {std::numeric_limits<int64_t>::min(), 7};
  ASSERT_OK(WriteSafetensors(path_,
                             {{"m/a", TensorFormat::kF32, {2, 3}, f32.data()},
                              {"scalar", TensorFormat::kF64, {}, &f64},
                              {"b16", TensorFormat::kBF16, {3}, half},
                              {"f16", TensorFormat::kF16, {3, 1}, half},
                              {"empty", TensorFormat::kF32, {0, 9}, nullptr},
                              {"i", TensorFormat::kI64, {2}, i64.data()}},
                             {{"made by", "a test"}}));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsReader::Open(path_));
  EXPECT_EQ(file->metadata().at("made by"), "a test");
  EXPECT_EQ(file->tensors().size(), 6u);
  ASSERT_OK_AND_ASSIGN(const auto back, file->ReadF32("m/a", {2, 3}));
  EXPECT_EQ(0, std::memcmp(back.data(), f32.data(), 24));
  double scalar = 0;
  ASSERT_NE(file->Find("scalar"), nullptr);
  EXPECT_OK(file->ReadBytes(*file->Find("scalar"), 0, 8, &scalar));
  EXPECT_EQ(scalar, f64);
  int64_t second = 0;
  EXPECT_OK(file->ReadBytes(*file->Find("i"), 8, 8, &second));
  EXPECT_EQ(second, 7);
  EXPECT_EQ(file->Find("f16")->shape, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(file->Find("empty")->elements, 0);
  EXPECT_EQ(file->Find("nothing"), nullptr);
}

TEST_F(SafetensorsTest, AlignsTheDataAndLeavesNothingBesideTheFile) {
  const float value = 1;
  ASSERT_OK(WriteSafetensors(path_, {{"a", TensorFormat::kF32, {1}, &value}}));
  const std::string bytes = ReadRaw(path_);
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) % 8, 0);
  const std::filesystem::directory_iterator files(dir_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  const std::vector<float> values(5, 2.0f);
  ASSERT_OK(WriteSafetensors(
      path_, {{"first", TensorFormat::kF32, {2}, values.data()},
              {"second", TensorFormat::kF32, {3, 1}, values.data()}}));
  const std::string whole = ReadRaw(path_);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THAT(OpenRaw(whole.substr(0, length)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path_)))
        << length;
  }
  EXPECT_THAT(OpenRaw(whole.substr(0, whole.size() - 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"second\": ends at byte 20 of the data, but "
                                 "the file has only 19")));
  EXPECT_OK(OpenRaw(whole));
}

TEST_F(SafetensorsTest, SurvivesEveryChangedByteOfTheHeader) {
  const float value = 1;
  ASSERT_OK(WriteSafetensors(path_, {{"a", TensorFormat::kF32, {1}, &value},
                                     {"b", TensorFormat::kF32, {1}, &value}}));
  const std::string whole = ReadRaw(path_);
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\0', '\x7f', '\xff', '9', '"', '{', '-', '['}) {
      std::string changed = whole;
      changed[at] = byte;
      WriteRaw(path_, changed);
      const auto file = SafetensorsReader::Open(path_);
      if (!file.ok()) continue;
      for (const TensorInfo& tensor : (*file)->tensors()) {
        std::string data(tensor.bytes(), '\0');
        EXPECT_OK((*file)->ReadBytes(tensor, 0, tensor.bytes(), data.data()));
      }
    }
  }
}

struct Hostile {
  const char* header;
  size_t data_bytes;
  const char* message;
};

class HostileHeaderTest : public SafetensorsTest,
                          public testing::WithParamInterface<Hostile> {};

TEST_P(HostileHeaderTest, IsRefusedWithItsReason) {
  const Hostile& hostile = GetParam();
  EXPECT_THAT(OpenRaw(FileOf(hostile.header, hostile.data_bytes)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(path_), HasSubstr(hostile.message))));
}

#define ENTRY(dtype, shape, offsets) \
  "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

INSTANTIATE_TEST_SUITE_P(
    All, HostileHeaderTest,
    testing::Values(
        Hostile{"", 4, "no JSON object"}, Hostile{"[]", 0, "no JSON object"},
        Hostile{"{\"a\":", 4, "no JSON object"},
        Hostile{"{\"a\":3}", 4, "\"a\": its entry is no JSON object"},
        Hostile{"{\"a\":{}}", 4, "\"a\": has no dtype"},
        Hostile{"{\"a\":" ENTRY("F8", "[4]", "[0,4]") "}", 4,
                "\"a\": dtype \"F8\" is none of"},
        Hostile{"{\"a\":" ENTRY("F32", "[-1]", "[0,4]") "}", 4,
                "\"a\": its shape is no list"},
        Hostile{"{\"a\":" ENTRY("F32", "[1.0]", "[0,4]") "}", 4,
                "\"a\": its shape is no list"},
        Hostile{"{\"a\":" ENTRY("F32", "{}", "[0,4]") "}", 4,
                "\"a\": its shape is no list"},
        Hostile{"{\"a\":" ENTRY("F32", "[18446744073709551615]", "[0,4]") "}",
                4, "\"a\": its shape is no list"},
        Hostile{"{\"a\":" ENTRY("F32", "[4294967296,4294967296]", "[0,0]") "}",
                0, "\"a\": its shape [4294967296, 4294967296] overflows"},
        Hostile{"{\"a\":" ENTRY("F32", "[4611686018427387904]", "[0,0]") "}", 0,
                "overflows"},
        Hostile{"{\"a\":" ENTRY("F32", "[1]", "[0]") "}", 4,
                "\"a\": its data_offsets are no pair"},
        Hostile{"{\"a\":" ENTRY("F32", "[1]", "[0,8]") "}", 8,
                "\"a\": data_offsets [0, 8] do not hold the 4 bytes of F32"},
        Hostile{"{\"a\":" ENTRY("F32", "[1]", "[4,0]") "}", 8,
                "\"a\": data_offsets [4, 0] do not hold"},
        Hostile{
            "{\"a\":" ENTRY("F32", "[1]",
                            "[9223372036854775804,9223372036854775808]") "}",
            8, "\"a\": its data_offsets are no pair"},
        Hostile{
            "{\"a\":" ENTRY("F32", "[1]",
                            "[9223372036854775800,9223372036854775804]") "}",
            8, "\"a\": begins at byte 9223372036854775800, after a gap"},
        Hostile{
            "{\"a\":" ENTRY("F32", "[2]", "[0,8]") ",\"b\":" ENTRY("F32", "[1]",
                                                                   "[4,8]") "}",
            8, "\"b\": begins at byte 4, inside the tensor before"},
        Hostile{"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY(
                    "F32", "[1]", "[8,12]") "}",
                12, "\"b\": begins at byte 8, after a gap of 4 bytes"},
        Hostile{"{\"a\":" ENTRY("F32", "[1]", "[0,4]") "}", 9,
                "5 bytes after its last tensor"},
        Hostile{
            "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"a\":" ENTRY("F32", "[1]",
                                                                   "[0,4]") "}",
            4, "\"a\": is listed twice"},
        Hostile{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],"
                "\"data_offsets\":[0,4]}}",
                4, "\"dtype\": is listed twice"},
        Hostile{"{\"a\":" ENTRY("F4", "[3]", "[0,1]") "}", 1,
                "\"a\": its shape [3] overflows, or makes no whole bytes"},
        Hostile{"\xEF\xBB\xBF{}", 0, "byte-order mark"},
        Hostile{"{} {}", 0, "malformed at line 1, column 4"},
        Hostile{"{\"__metadata__\":{\"k\":\"\xff\"}}", 0, "not UTF-8"},
        Hostile{"{\"__metadata__\":{\"k\":3}}", 0, "key \"k\" is no string"},
        Hostile{"{\"__metadata__\":3}", 0, "__metadata__ is no JSON object"}));

TEST_F(SafetensorsTest, ATensorOfAnyElementTypeOfTheFormatIsNoReasonToRefuse) {
  struct Type {
    const char* name;
    TensorFormat format;
    int64_t bits;
  };
  const Type types[] = {{"F64", TensorFormat::kF64, 64},
                        {"F32", TensorFormat::kF32, 32},
                        {"F16", TensorFormat::kF16, 16},
                        {"BF16", TensorFormat::kBF16, 16},
                        {"I64", TensorFormat::kI64, 64},
                        {"I32", TensorFormat::kI32, 32},
                        {"I16", TensorFormat::kI16, 16},
                        {"I8", TensorFormat::kI8, 8},
                        {"U64", TensorFormat::kU64, 64},
                        {"U32", TensorFormat::kU32, 32},
                        {"U16", TensorFormat::kU16, 16},
                        {"U8", TensorFormat::kU8, 8},
                        {"BOOL", TensorFormat::kBool, 8},
                        {"C64", TensorFormat::kC64, 64},
                        {"F8_E4M3", TensorFormat::kF8E4M3, 8},
                        {"F8_E5M2", TensorFormat::kF8E5M2, 8},
                        {"F8_E8M0", TensorFormat::kF8E8M0, 8},
                        {"F6_E2M3", TensorFormat::kF6E2M3, 6},
                        {"F6_E3M2", TensorFormat::kF6E3M2, 6},
                        {"F4", TensorFormat::kF4, 4}};
  for (const Type& type : types) {
    const std::string bytes = std::to_string(type.bits);  // Of 8 elements.
    const std::string end = std::to_string(type.bits + 4);
    ASSERT_OK(OpenRaw(FileOf(
        "{\"a\":{\"dtype\":\"" + std::string(type.name) +
            "\",\"shape\":[8],\"data_offsets\":[0," + bytes + "]},\"b\":" +
            "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" + bytes +
            "," + end + "]}}",
        type.bits + 4)))
        << type.name;
    ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsReader::Open(path_));
    EXPECT_EQ(file->Find("a")->format, type.format) << type.name;
    EXPECT_EQ(file->Find("a")->bytes(), type.bits) << type.name;
    EXPECT_STREQ(TensorFormatName(type.format), type.name);
    EXPECT_OK(file->ReadF32("b", {1})) << type.name;
  }
}

TEST_F(SafetensorsTest, OpensAFileOfTwoHundredThousandTensors) {
  constexpr int kTensors = 200000;
  const float value = 1;
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < kTensors; ++i) {
    tensors.push_back({"layers." + std::to_string(i) + ".weight",
                       TensorFormat::kF32,
                       {1},
                       &value});
  }
  ASSERT_OK(WriteSafetensors(path_, tensors));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsReader::Open(path_));
  EXPECT_EQ(file->tensors().size(), static_cast<size_t>(kTensors));
  EXPECT_EQ(file->Find("layers.199999.weight")->offset, 4 * (kTensors - 1));
}

TEST_F(SafetensorsTest, RefusesAHeaderLengthBeyondTheFileOrTheFormat) {
  EXPECT_THAT(OpenRaw(std::string(8, '\xff')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("18446744073709551615 bytes, more than")));
  EXPECT_THAT(OpenRaw(std::string("\x40\0\0\0\0\0\0\0{}", 10)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("claims 64 bytes, but the file has 10")));
}

TEST_F(SafetensorsTest, RefusesWhatFollowsANulInTheHeader) {
  EXPECT_THAT(OpenRaw(FileOf(std::string("{}\0{\"a\":", 8), 0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("NUL byte at offset 2")));
}

TEST_F(SafetensorsTest, SurvivesDeeplyNestedJson) {
  EXPECT_FALSE(OpenRaw(FileOf("{\"a\":" + std::string(1000000, '['), 0)).ok());
}

TEST_F(SafetensorsTest, NamesTheFileThatIsAbsentOrADirectory) {
  EXPECT_THAT(SafetensorsReader::Open(dir_ + "/none").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/none")));
  EXPECT_THAT(SafetensorsReader::Open(dir_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("not a regular file")));
}

TEST_F(SafetensorsTest, RefusesATensorOfAnotherShapeOrFormat) {
  const double value[] = {1, 2};
  ASSERT_OK(WriteSafetensors(path_, {{"d", TensorFormat::kF64, {1}, value},
                                     {"f", TensorFormat::kF32, {2}, value}}));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsReader::Open(path_));
  EXPECT_THAT(file->ReadF32("d", {1}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"d\": is F64 [1], not F32 [1]")));
  EXPECT_THAT(file->ReadF32("f", {1, 2}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"f\": is F32 [2], not F32 [1, 2]")));
  EXPECT_THAT(file->ReadF32("g", {2}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"g\"")));
  char byte = 0;
  EXPECT_THAT(file->ReadBytes(*file->Find("f"), 8, 1, &byte),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(SafetensorsTest, ReportsAFileThatShrankAfterItWasOpened) {
  const float values[] = {1, 2};
  ASSERT_OK(WriteSafetensors(path_, {{"f", TensorFormat::kF32, {2}, values}}));
  ASSERT_OK_AND_ASSIGN(const auto file, SafetensorsReader::Open(path_));
  std::filesystem::resize_file(path_, ReadRaw(path_).size() - 3);
  EXPECT_THAT(file->ReadF32("f", {2}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"f\": ends 3 bytes too early")));
}

TEST_F(SafetensorsTest, RefusesToWriteANameTwiceAndKeepsTheOldFile) {
  const float value = 1;
  WriteRaw(path_, "old");
  EXPECT_THAT(WriteSafetensors(path_, {{"a", TensorFormat::kF32, {1}, &value},
                                       {"a", TensorFormat::kF32, {1}, &value}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"a\"")));
  EXPECT_EQ(ReadRaw(path_), "old");
  EXPECT_THAT(WriteSafetensors(dir_ + "/no/file", {}),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("/no/file: cannot be created")));
}

}  // namespace
}  // namespace zeromini
