// tools/files: what both programs read, write and say.

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"
#include "tools/files/json_file.h"
#include "tools/files/output_folder.h"
#include "tools/files/terminal.h"
#include "tools/files/text_file.h"
#include "zeromini/internal/file_descriptor.h"

namespace zeromini::tools {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class FilesTest : public testing::Test {
 protected:
  FilesTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~FilesTest() override { fs::remove_all(dir_); }

  static std::string Contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  static void Put(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static std::vector<std::string> NamesIn(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& file : fs::directory_iterator(folder)) {
      names.push_back(file.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  const std::string dir_ =
      testing::TempDir() + "files_test." + std::to_string(getpid());
  const std::string path_ = dir_ + "/file";
};

using TextFileTest = FilesTest;

TEST_F(TextFileTest, KnowsCompressedFilesByTheirFirstBytes) {
  EXPECT_EQ(CompressionOf("\x1f\x8b\x08..."), Compression::kGzip);
  EXPECT_EQ(CompressionOf("\xfd"
                          "7zXZ"),
            Compression::kXz);
  EXPECT_EQ(CompressionOf("\x28\xb5\x2f\xfd"), Compression::kZstd);
  EXPECT_EQ(CompressionOf("BZh91AY"), Compression::kBzip2);
  EXPECT_EQ(CompressionOf("PK\x03\x04"), Compression::kZip);
  for (const char* text : {"", "\x1f", "once upon a time", "PKW"}) {
    EXPECT_EQ(CompressionOf(text), Compression::kNone) << text;
  }
}

TEST_F(TextFileTest, AFolderStandsForTheConfigInIt) {
  EXPECT_THAT(
      ConfigPath(dir_).status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr(dir_ + ": is a folder without a config.json")));
  Put(dir_ + "/config.json", "{}");
  for (const std::string& given : {dir_, dir_ + "/", dir_ + "/config.json"}) {
    ASSERT_OK_AND_ASSIGN(const std::string found, ConfigPath(given));
    EXPECT_TRUE(fs::equivalent(found, dir_ + "/config.json")) << found;
  }
  ASSERT_OK_AND_ASSIGN(const std::string absent, ConfigPath("/no/such"));
  EXPECT_EQ(absent, "/no/such");
}

TEST_F(TextFileTest, CheckWritableFindsEveryBadPathAndLeavesNoTrace) {
  EXPECT_OK(CheckWritable(""));
  EXPECT_OK(CheckWritable(path_));
  EXPECT_OK(CheckWritable("/dev/null"));
  EXPECT_EQ(NamesIn(dir_).size(), 0u);
  Put(path_, "old");
  EXPECT_OK(CheckWritable(path_));
  EXPECT_EQ(Contents(path_), "old");
  ASSERT_EQ(mkfifo((dir_ + "/pipe").c_str(), 0600), 0);
  for (const std::string& bad :
       {dir_, dir_ + "/none/file", path_ + "/below", dir_ + "/pipe"}) {
    const absl::Status status = CheckWritable(bad);
    EXPECT_EQ(ExitCodeOf(status), 2) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad));
    EXPECT_FALSE(WriteTextFile(bad, "x").ok()) << bad;
  }
}

TEST_F(TextFileTest, WhatTheWorldLacksIsNotTheFaultOfThePath) {
  for (const int error : {ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM}) {
    EXPECT_EQ(ExitCodeOf(CannotBeWritten("x", error)), 1) << error;
  }
  for (const int error : {EACCES, ENOENT, EROFS, ENOTDIR, ELOOP}) {
    EXPECT_EQ(ExitCodeOf(CannotBeWritten("x", error)), 2) << error;
  }
}

TEST_F(TextFileTest, WritesToADeviceAsItIs) {
  EXPECT_OK(WriteTextFile("/dev/null", "text"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_THAT(WriteTextFile("/dev/full", "text"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("/dev/full: cannot be written")));
}

// What is no device is a file there, too.
TEST_F(TextFileTest, AFileUnderDevIsWrittenWholeAndReplaced) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "there is no /dev/shm";
  const std::string path =
      absl::StrCat("/dev/shm/files_test.", getpid(), ".json");
  EXPECT_OK(CheckWritable(path));
  EXPECT_FALSE(fs::exists(path));
  EXPECT_OK(WriteTextFile(path, "a long text"));
  EXPECT_OK(WriteTextFile(path, "short"));
  EXPECT_EQ(Contents(path), "short");
  fs::remove(path);
}

TEST_F(TextFileTest, WhatGoesToStdoutStandsBetweenWhatIsPrinted) {
  testing::internal::CaptureStdout();
  std::printf("table\n");
  EXPECT_OK(WriteTextFile("/dev/stdout", "json\n"));
  std::printf("end\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "table\njson\nend\n");
  testing::internal::CaptureStderr();
  std::fprintf(stderr, "line\n");
  EXPECT_OK(WriteTextFile("/proc/self/fd/2", "json\n"));
  std::fprintf(stderr, "end\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "line\njson\nend\n");
}

using JsonFileTest = FilesTest;

TEST_F(JsonFileTest, EverythingIsWrittenAndCanBeReadBack) {
  const nlohmann::json json = {
      {"name", "caf\xe9 \xff"},
      {"nan", std::numeric_limits<double>::quiet_NaN()},
      {"bad \xc3 key", 1}};
  ASSERT_OK(WriteJson(path_, json));
  ASSERT_OK_AND_ASSIGN(const nlohmann::json back, ReadJsonObject(path_));
  EXPECT_EQ(back["name"], "caf\xEF\xBF\xBD \xEF\xBF\xBD");
  EXPECT_TRUE(back["nan"].is_null());
  EXPECT_EQ(back["bad \xEF\xBF\xBD key"], 1);
}

TEST_F(JsonFileTest, NamesTheFileAndWhatIsWrong) {
  Put(path_, "[1]");
  EXPECT_THAT(
      ReadJsonObject(path_).status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr(path_ + ": is not a JSON object but a array")));
  Put(path_, std::string("{}\0x", 4));
  EXPECT_THAT(ReadJsonObject(path_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(path_ + ": is not a JSON object: has a NUL")));
  Put(path_, "{\"key\":\"0123456789\"}");
  EXPECT_THAT(ReadJsonObject(path_, 9).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("more than the limit of 9")));
}

TEST(TerminalTest, NothingThatIsShownMovesTheCursorOrReordersText) {
  EXPECT_EQ(ForTerminal("plain caf\xC3\xA9 \xE2\x80\x94 \xF0\x9F\x98\x80"),
            "plain caf\xC3\xA9 \xE2\x80\x94 \xF0\x9F\x98\x80");
  EXPECT_EQ(ForTerminal("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
  EXPECT_EQ(ForTerminal("a\nb\rc\td"), "a b c d");
  EXPECT_EQ(ForTerminal("\x7f\x9b"
                        "1m"),
            "\\x7f\\x9b1m");
  EXPECT_EQ(ForTerminal("\xC2\x9b"), "\\xc2\\x9b") << "CSI of one character";
  EXPECT_EQ(ForTerminal("\xE2\x80\xAE"), "\\xe2\\x80\\xae") << "right to left";
  EXPECT_EQ(ForTerminal("\xC3"), "\\xc3");
  EXPECT_EQ(ForTerminal("\xED\xA0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(ForTerminal("\xC0\x9b"), "\\xc0\\x9b") << "overlong";
  EXPECT_EQ(ForTerminal(absl::string_view("\0", 1)), "\\x00");
}

TEST(TerminalTest, LinesStayLines) {
  EXPECT_EQ(LinesForTerminal("a\x1b\n\nb"), "a\\x1b\n\nb\n");
  EXPECT_EQ(LinesForTerminal(""), "");
}

TEST(TerminalTest, ExitCodesTellInputFromTheWorld) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kNotFound,
        absl::StatusCode::kAlreadyExists, absl::StatusCode::kPermissionDenied,
        absl::StatusCode::kFailedPrecondition, absl::StatusCode::kOutOfRange,
        absl::StatusCode::kUnimplemented}) {
    EXPECT_EQ(ExitCodeOf(absl::Status(code, "x")), 2) << code;
  }
  for (const absl::StatusCode code :
       {absl::StatusCode::kResourceExhausted, absl::StatusCode::kUnavailable,
        absl::StatusCode::kAborted, absl::StatusCode::kDeadlineExceeded,
        absl::StatusCode::kInternal, absl::StatusCode::kDataLoss,
        absl::StatusCode::kCancelled, absl::StatusCode::kUnknown}) {
    EXPECT_EQ(ExitCodeOf(absl::Status(code, "x")), 1) << code;
  }
}

class OutputFolderTest : public FilesTest {
 protected:
  OutputFolderTest() {
    rules_.ours = [](const std::string& name) {
      return name == "run.json" || name == "metrics.jsonl";
    };
  }
  absl::StatusOr<OutputFolder> Claim() {
    return OutputFolder::Claim(folder_, rules_);
  }

  const std::string folder_ = dir_ + "/a/run";
  OutputFolderRules rules_;
};

TEST_F(OutputFolderTest, IsMadeAndLeftWithoutATrace) {
  { ASSERT_OK(Claim()); }
  EXPECT_TRUE(fs::is_directory(folder_));
  EXPECT_TRUE(NamesIn(folder_).empty());
}

TEST_F(OutputFolderTest, BelongsToOneRunAtATime) {
  {
    ASSERT_OK_AND_ASSIGN(OutputFolder first, Claim());
    rules_.overwrite = true;
    EXPECT_THAT(Claim().status(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr(folder_ + ": another run is writing")));
    OutputFolder moved = std::move(first);
    EXPECT_FALSE(Claim().ok());
  }
  EXPECT_OK(Claim());
}

TEST_F(OutputFolderTest, AFolderThatWasMovedAwayIsLeftAlone) {
  std::optional<OutputFolder> second;
  {
    ASSERT_OK_AND_ASSIGN(const OutputFolder first, Claim());
    EXPECT_OK(first.CheckInPlace());
    fs::rename(folder_, folder_ + ".moved");
    ASSERT_OK_AND_ASSIGN(second, Claim());
    EXPECT_THAT(
        first.CheckInPlace(),
        StatusIs(absl::StatusCode::kAborted,
                 HasSubstr(folder_ + ": is no longer the folder of this run")));
  }
  EXPECT_OK(second->CheckInPlace()) << "the lock of another run was removed";
}

TEST_F(OutputFolderTest, AnEarlierRunStaysUnlessOverwriteIsSaid) {
  { ASSERT_OK(Claim()); }
  Put(folder_ + "/metrics.jsonl", "old");
  Put(folder_ + "/notes.txt", "mine");
  EXPECT_THAT(Claim().status(),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr(folder_), HasSubstr("metrics.jsonl"),
                             HasSubstr("--overwrite"))));
  EXPECT_EQ(Contents(folder_ + "/metrics.jsonl"), "old");
  rules_.overwrite = true;
  { ASSERT_OK(Claim()); }
  EXPECT_THAT(NamesIn(folder_), ElementsAre("notes.txt"));
}

TEST_F(OutputFolderTest, RemovesWhatKilledWritersLeftAndNothingElse) {
  { ASSERT_OK(Claim()); }
  Put(folder_ + "/run.json.partial-0", "half");
  Put(folder_ + "/thesis.partial-0", "mine");
  { ASSERT_OK(Claim()); }
  EXPECT_THAT(NamesIn(folder_), ElementsAre("thesis.partial-0"));
}

TEST_F(OutputFolderTest, RefusesOtherFilesWhereTheyAreNotAllowed) {
  rules_.others_allowed = false;
  { ASSERT_OK(Claim()); }
  Put(folder_ + "/run.json", "old");
  Put(folder_ + "/grads_01", "precious");
  for (const bool overwrite : {false, true}) {
    rules_.overwrite = overwrite;
    EXPECT_THAT(Claim().status(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr(folder_), HasSubstr("grads_01"))));
  }
  EXPECT_THAT(NamesIn(folder_), ElementsAre("grads_01", "run.json"));
}

TEST_F(OutputFolderTest, AFileIsNoFolder) {
  fs::create_directories(dir_ + "/a");
  Put(folder_, "a file");
  EXPECT_THAT(Claim().status(),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr(folder_ + ": cannot be created")));
}

}  // namespace
}  // namespace zeromini::tools
